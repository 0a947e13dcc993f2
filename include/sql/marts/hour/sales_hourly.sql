-- Grain: one row per hour, country and channel. Recomputes the hours in staging.touched_hour.
delete from marts.sales_hourly
where
    order_hour >= :first_day
    and order_hour < :past_last_day
    and order_hour in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.sales_hourly (
    order_hour,
    country,
    channel,
    orders,
    return_orders,
    units,
    gross_sales,
    returned_sales,
    net_sales
)
with

headers as (
    select *
    from core.order_header
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select touched_hour.event_hour from staging.touched_hour)
        and order_type in ('sale', 'return')
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
        count_if(headers.order_type = 'sale') as orders,
        count_if(headers.order_type = 'return') as return_orders,
        sum(lines.units) as units,
        sum(lines.gross_sales) as gross_sales,
        sum(lines.returned_sales) as returned_sales,
        sum(lines.gross_sales - lines.returned_sales) as net_sales
    from headers
    inner join lines on headers.event_id = lines.event_id and headers.event_ts = lines.event_ts
    group by headers.event_hour, headers.country, headers.channel
)

select * from final;
