-- Grain: one row per day, country and channel. Recomputes the days in :days, a JSON list, from their hours: an order
-- is in one hour only, so its counts add up.
delete from marts.sales_daily
where order_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into marts.sales_daily (
    order_date,
    country,
    channel,
    orders,
    return_orders,
    units,
    gross_sales,
    returned_sales,
    net_sales
)
select
    to_date(order_hour) as order_date,
    country,
    channel,
    sum(orders) as orders,
    sum(return_orders) as return_orders,
    sum(units) as units,
    sum(gross_sales) as gross_sales,
    sum(returned_sales) as returned_sales,
    sum(net_sales) as net_sales
from marts.sales_hourly
where to_date(order_hour) in (select value::date from table(flatten(input => parse_json(:days))))
group by to_date(order_hour), country, channel;
