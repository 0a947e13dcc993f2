-- Grain: one row per day, country, product and the category that it had at the time. Recomputes the days in :days, a
-- JSON list.
delete from marts.product_daily
where order_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into marts.product_daily (
    order_date,
    country,
    product_id,
    category,
    orders,
    units,
    net_sales
)
with

headers as (
    select *
    from core.order_header
    where
        to_date(event_ts) in (select value::date from table(flatten(input => parse_json(:days))))
        and order_type in ('sale', 'return')
),

lines as (
    select
        line.event_id,
        line.event_ts,
        line.country,
        line.product_id,
        line.quantity,
        line.unit_price,
        coalesce(product.category, 'Unknown') as category
    from core.order_line as line
    left join core.product as product
        on
            line.product_id = product.product_id
            and line.event_ts >= product.valid_from_ts
            and line.event_ts < product.valid_to_ts
    where to_date(line.event_ts) in (select value::date from table(flatten(input => parse_json(:days))))
),

final as (
    select
        to_date(lines.event_ts) as order_date,
        lines.country,
        lines.product_id,
        lines.category,
        count(distinct headers.order_id) as orders,
        sum(lines.quantity) as units,
        sum(lines.quantity * lines.unit_price) as net_sales
    from lines
    inner join headers on lines.event_id = headers.event_id and lines.event_ts = headers.event_ts
    group by to_date(lines.event_ts), lines.country, lines.product_id, lines.category
)

select * from final;
