-- Grain: one row per day, country, channel and category. Recomputes the days in :days, a JSON list, from their
-- hours: an order is in one hour only, so its counts add up.
delete from marts.sales_category_daily
where order_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into marts.sales_category_daily (
    order_date,
    country,
    channel,
    category,
    orders,
    units,
    gross_sales,
    returned_sales,
    net_sales
)
select
    to_date(order_hour) as order_date,
    country,
    channel,
    category,
    sum(orders) as orders,
    sum(units) as units,
    sum(gross_sales) as gross_sales,
    sum(returned_sales) as returned_sales,
    sum(net_sales) as net_sales
from marts.sales_category_hourly
where to_date(order_hour) in (select value::date from table(flatten(input => parse_json(:days))))
group by to_date(order_hour), country, channel, category;
