-- Grain: one row per hour, country, channel and category. Recomputes the hours in staging.touched_hour. A line belongs
-- to the category that its product had at the time.
delete from marts.sales_category_hourly
where
    order_hour >= :first_day
    and order_hour < :past_last_day
    and order_hour in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.sales_category_hourly (
    order_hour,
    country,
    channel,
    category,
    orders,
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
        headers.event_hour as order_hour,
        headers.country,
        headers.channel,
        lines.category,
        count(distinct iff(headers.order_type = 'sale', headers.event_id, null)) as orders,
        sum(lines.quantity) as units,
        sum(iff(lines.quantity > 0, lines.quantity * lines.unit_price, 0)) as gross_sales,
        sum(iff(lines.quantity < 0, -lines.quantity * lines.unit_price, 0)) as returned_sales,
        sum(lines.quantity * lines.unit_price) as net_sales
    from headers
    inner join lines on headers.event_id = lines.event_id and headers.event_ts = lines.event_ts
    group by headers.event_hour, headers.country, headers.channel, lines.category
)

select * from final;
