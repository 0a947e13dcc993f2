-- Grain: one row per hour, country, channel and loyalty tier. Recomputes the hours in staging.touched_hour. An order
-- belongs to the tier that its customer had at the time.
delete from marts.sales_loyalty_hourly
where
    order_hour >= :first_day
    and order_hour < :past_last_day
    and order_hour in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.sales_loyalty_hourly (
    order_hour,
    country,
    channel,
    loyalty_tier,
    orders,
    return_orders,
    units,
    gross_sales,
    returned_sales,
    net_sales
)
with

headers as (
    select
        orders.event_id,
        orders.event_ts,
        orders.event_hour,
        orders.order_type,
        orders.country,
        orders.channel,
        case
            when orders.customer_id is null then 'guest'
            else coalesce(customer.loyalty_tier, 'unknown')
        end as loyalty_tier
    from core.order_header as orders
    left join core.customer as customer
        on
            orders.customer_id = customer.customer_id
            and orders.event_ts >= customer.valid_from_ts
            and orders.event_ts < customer.valid_to_ts
    where
        orders.event_hour >= :first_day
        and orders.event_hour < :past_last_day
        and orders.event_hour in (select touched_hour.event_hour from staging.touched_hour)
        and orders.order_type in ('sale', 'return')
),

lines as (
    select
        event_id,
        event_ts,
        sum(quantity) as units,
        sum(iff(quantity > 0, quantity * unit_price, 0)) as gross_sales,
        sum(iff(quantity < 0, -quantity * unit_price, 0)) as returned_sales
    from core.order_line
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select touched_hour.event_hour from staging.touched_hour)
    group by event_id, event_ts
),

final as (
    select
        headers.event_hour as order_hour,
        headers.country,
        headers.channel,
        headers.loyalty_tier,
        count_if(headers.order_type = 'sale') as orders,
        count_if(headers.order_type = 'return') as return_orders,
        sum(lines.units) as units,
        sum(lines.gross_sales) as gross_sales,
        sum(lines.returned_sales) as returned_sales,
        sum(lines.gross_sales - lines.returned_sales) as net_sales
    from headers
    inner join lines on headers.event_id = lines.event_id and headers.event_ts = lines.event_ts
    group by headers.event_hour, headers.country, headers.channel, headers.loyalty_tier
)

select * from final;
