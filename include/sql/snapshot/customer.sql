-- Grain: one row per customer with sales in the year up to the last committed window; of too many those who bought
-- last. Amounts in GBP, of an order.
with

year_before as (
    select dateadd(year, -1, max(window_end)) as from_ts
    from ops.slice
    where state = 'committed'
),

headers as (
    select
        event_id,
        event_ts,
        customer_id
    from core.order_header
    where
        event_ts >= (select from_ts from year_before)
        and order_type = 'sale'
        and customer_id is not null
),

amounts as (
    select
        event_id,
        event_ts,
        sum(quantity * unit_price) as amount
    from core.order_line
    where event_ts >= (select from_ts from year_before)
    group by event_id, event_ts
),

final as (
    select
        headers.customer_id,
        count(*) as orders,
        avg(amounts.amount)::float as mean_amount,
        max(amounts.amount)::float as max_amount
    from headers
    inner join amounts on headers.event_id = amounts.event_id and headers.event_ts = amounts.event_ts
    group by headers.customer_id
    qualify row_number() over (order by max(headers.event_ts) desc, headers.customer_id) <= :most
)

select * from final
