-- Grain: one row per day, customer and country. Recomputes the days in :days, a JSON list.
delete from marts.customer_daily
where order_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into marts.customer_daily (
    order_date,
    customer_id,
    country,
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
        to_date(event_ts) in (select value::date from table(flatten(input => parse_json(:days))))
        and order_type in ('sale', 'return')
        and customer_id is not null
),

lines as (
    select
        event_id,
        event_ts,
        sum(quantity) as units,
        sum(iff(quantity > 0, quantity * unit_price, 0)) as gross_sales,
        sum(iff(quantity < 0, -quantity * unit_price, 0)) as returned_sales
    from core.order_line
    where to_date(event_ts) in (select value::date from table(flatten(input => parse_json(:days))))
    group by event_id, event_ts
),

final as (
    select
        to_date(headers.event_ts) as order_date,
        headers.customer_id,
        headers.country,
        count_if(headers.order_type = 'sale') as orders,
        count_if(headers.order_type = 'return') as return_orders,
        sum(lines.units) as units,
        sum(lines.gross_sales) as gross_sales,
        sum(lines.returned_sales) as returned_sales,
        sum(lines.gross_sales - lines.returned_sales) as net_sales
    from headers
    inner join lines on headers.event_id = lines.event_id and headers.event_ts = lines.event_ts
    group by to_date(headers.event_ts), headers.customer_id, headers.country
)

select * from final;
