-- Grain: one row per minute, country, category and channel, as live.sales_minute has them. Recomputes the hours in
-- staging.touched_hour. A line belongs to the category that its product had at the time.
delete from marts.sales_minute
where
    minute_ts >= :first_day
    and minute_ts < :past_last_day
    and date_trunc('hour', minute_ts) in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.sales_minute (
    minute_ts,
    country,
    category,
    channel,
    units,
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
        line.event_id,
        line.event_ts,
        line.quantity,
        line.unit_price,
        coalesce(product.category, 'Unknown') as category
    from core.order_line as line
    left join core.product as product
        on
            line.product_id = product.product_id
            and line.event_ts >= product.valid_from_ts
            and line.event_ts < product.valid_to_ts
    where
        line.event_hour >= :first_day
        and line.event_hour < :past_last_day
        and line.event_hour in (select touched_hour.event_hour from staging.touched_hour)
),

final as (
    select
        date_trunc('minute', headers.event_ts) as minute_ts,
        headers.country,
        lines.category,
        headers.channel,
        sum(lines.quantity) as units,
        sum(lines.quantity * lines.unit_price) as net_sales
    from headers
    inner join lines on headers.event_id = lines.event_id and headers.event_ts = lines.event_ts
    group by date_trunc('minute', headers.event_ts), headers.country, lines.category, headers.channel
)

select * from final;
