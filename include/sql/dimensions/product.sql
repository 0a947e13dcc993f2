-- Grain: one row per product and period in which its name did not change.
-- Rebuilds the products of slice :slice_id whose name was new at that time. Free lines carry notes instead of names.
delete from core.product
where product_id in (
    select line.product_id
    from core.order_line as line
    left join core.product as known
        on
            line.product_id = known.product_id
            and line.event_ts >= known.valid_from_ts
            and (known.valid_to_ts is null or line.event_ts < known.valid_to_ts)
    where
        line.slice_id = :slice_id
        and line.unit_price > 0
        and line.description is not null
        and (known.product_id is null or known.product_name <> line.description)
);

insert into core.product (product_id, product_name, valid_from_ts, valid_to_ts, is_current)
with

named as (
    select
        product_id,
        event_ts,
        max(description) as product_name
    from core.order_line
    where
        unit_price > 0
        and description is not null
        and product_id in (
            select line.product_id
            from core.order_line as line
            where line.slice_id = :slice_id
        )
        and product_id not in (select product.product_id from core.product)
    group by product_id, event_ts
),

changed as (
    select *
    from named
    qualify
        lag(product_name) over (partition by product_id order by event_ts) is null
        or lag(product_name) over (partition by product_id order by event_ts) <> product_name
),

final as (
    select
        product_id,
        product_name,
        event_ts as valid_from_ts,
        lead(event_ts) over (partition by product_id order by event_ts) as valid_to_ts,
        lead(event_ts) over (partition by product_id order by event_ts) is null as is_current
    from changed
)

select * from final;
