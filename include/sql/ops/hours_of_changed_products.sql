-- Grain: one row per hour with order lines in a version of a product that slice :slice_id brought or has a change in. A
-- change that says what was said before makes no version of its own, but may have taken the place of one.
with

versions as (
    select
        product_id,
        valid_from_ts,
        valid_to_ts
    from core.product
    where slice_id = :slice_id
    union distinct
    select
        product.product_id,
        product.valid_from_ts,
        product.valid_to_ts
    from core.product
    inner join core.product_change as change
        on
            product.product_id = change.product_id
            and product.valid_from_ts <= change.event_ts
            and product.valid_to_ts > change.event_ts
    where change.slice_id = :slice_id
),

final as (
    select distinct line.event_hour
    from core.order_line as line
    inner join versions
        on
            line.product_id = versions.product_id
            and line.event_ts >= versions.valid_from_ts
            and line.event_ts < versions.valid_to_ts
)

select * from final
