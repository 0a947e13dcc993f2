-- Grain: one row per customer and period in which the country did not change.
-- Rebuilds the customers of slice :slice_id whose country was new at that time.
delete from core.customer
where customer_id in (
    select orders.customer_id
    from core.order_header as orders
    left join core.customer as known
        on
            orders.customer_id = known.customer_id
            and orders.event_ts >= known.valid_from_ts
            and (known.valid_to_ts is null or orders.event_ts < known.valid_to_ts)
    where
        orders.slice_id = :slice_id
        and orders.customer_id is not null
        and (known.customer_id is null or known.country <> orders.country)
);

insert into core.customer (customer_id, country, valid_from_ts, valid_to_ts, is_current)
with

placed as (
    select
        customer_id,
        event_ts,
        max(country) as country
    from core.order_header
    where
        customer_id in (
            select orders.customer_id
            from core.order_header as orders
            where orders.slice_id = :slice_id
        )
        and customer_id not in (select customer.customer_id from core.customer)
    group by customer_id, event_ts
),

changed as (
    select *
    from placed
    qualify
        lag(country) over (partition by customer_id order by event_ts) is null
        or lag(country) over (partition by customer_id order by event_ts) <> country
),

final as (
    select
        customer_id,
        country,
        event_ts as valid_from_ts,
        lead(event_ts) over (partition by customer_id order by event_ts) as valid_to_ts,
        lead(event_ts) over (partition by customer_id order by event_ts) is null as is_current
    from changed
)

select * from final;
