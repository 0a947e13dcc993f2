-- Grain: one row per hour with order lines in a version of a product that slice :slice_id brought.
select distinct line.event_hour
from core.order_line as line
inner join core.product as product
    on
        line.product_id = product.product_id
        and line.event_ts >= product.valid_from_ts
        and line.event_ts < product.valid_to_ts
where product.slice_id = :slice_id;
