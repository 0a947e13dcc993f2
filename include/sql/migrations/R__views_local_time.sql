-- The shop's own time: one zone for all, the one place where it is named. Everything else in the warehouse is UTC.

-- Grain: one row per hour (UTC), country and channel. local_hour: what the shop's clocks say then; twice the same in
-- the night of 25 hours, but unique with utc_offset_min, by which they are ahead of UTC. local_date: their day.
create or replace view reporting.sales_by_local_hour copy grants as
with

hours as (
    select
        *,
        convert_timezone('UTC', 'Europe/London', order_hour) as local_hour
    from marts.sales_hourly
),

final as (
    select
        local_hour,
        datediff(minute, order_hour, local_hour) as utc_offset_min,
        to_date(local_hour) as local_date,
        order_hour,
        country,
        channel,
        orders,
        return_orders,
        units,
        gross_sales,
        returned_sales,
        net_sales
    from hours
)

select * from final;

-- Grain: one row per day of the shop's clocks, country and channel: of 24 hours, or of 23 or 25 when they are changed.
-- From all hours that are published, rolled up or not.
create or replace view reporting.sales_by_local_day copy grants as
select
    local_date,
    country,
    channel,
    sum(orders) as orders,
    sum(return_orders) as return_orders,
    sum(units) as units,
    sum(gross_sales) as gross_sales,
    sum(returned_sales) as returned_sales,
    sum(net_sales) as net_sales
from reporting.sales_by_local_hour
group by local_date, country, channel;
