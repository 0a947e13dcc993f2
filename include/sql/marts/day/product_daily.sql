-- Grain: one row per day, country and product. Recomputes the days in :days, a JSON list.
delete from marts.product_daily
where order_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into marts.product_daily (order_date, country, product_id, orders, units, net_sales)
with

headers as (
    select *
    from core.order_header
    where
        to_date(event_ts) in (select value::date from table(flatten(input => parse_json(:days))))
        and order_type in ('sale', 'return')
),

lines as (
    select *
    from core.order_line
    where to_date(event_ts) in (select value::date from table(flatten(input => parse_json(:days))))
),

final as (
    select
        to_date(lines.event_ts) as order_date,
        lines.country,
        lines.product_id,
        count(distinct headers.order_id) as orders,
        sum(lines.quantity) as units,
        sum(lines.quantity * lines.unit_price) as net_sales
    from lines
    inner join headers on lines.event_id = headers.event_id and lines.event_ts = headers.event_ts
    group by to_date(lines.event_ts), lines.country, lines.product_id
)

select * from final;
