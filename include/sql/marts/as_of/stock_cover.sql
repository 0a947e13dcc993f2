-- Grain: one row per warehouse and product that ever moved in it. Made anew as of the newest day in ops.day, from
-- marts.stock_hourly. The rules are in the YAML twin.
delete from marts.stock_cover;

insert into marts.stock_cover (
    as_of_date,
    warehouse_id,
    product_id,
    stock,
    last_counted_date,
    units_sold,
    observed_days,
    daily_units,
    days_of_cover,
    lead_time_days,
    reorder_point,
    is_proposed,
    proposed_units
)
with

-- lead_time_days: from an order to the goods; safety_days: for which goods should be left then; order_days: for which
-- an order is.
assumed as (
    select
        28 as sales_days,
        7 as lead_time_days,
        3 as safety_days,
        14 as order_days
),

as_of as (
    select
        max(order_date) as as_of_date,
        dateadd(day, 1, max(order_date))::timestamp_ntz as to_ts
    from ops.day
),

hours as (
    select stock_hourly.*
    from marts.stock_hourly
    cross join as_of
    where stock_hourly.event_hour < as_of.to_ts
),

shelves as (
    select
        warehouse_id,
        product_id,
        min(event_hour) as first_hour,
        max(iff(counted is not null, event_hour, null)) as counted_hour
    from hours
    group by warehouse_id, product_id
),

warehouses as (
    select
        warehouse_id,
        to_date(min(first_hour)) as first_date
    from shelves
    group by warehouse_id
),

stocks as (
    select
        hours.warehouse_id,
        hours.product_id,
        to_date(max(shelves.counted_hour)) as last_counted_date,
        sum(coalesce(hours.counted, 0) + hours.change) as stock
    from hours
    inner join shelves on hours.warehouse_id = shelves.warehouse_id and hours.product_id = shelves.product_id
    where shelves.counted_hour is null or hours.event_hour >= shelves.counted_hour
    group by hours.warehouse_id, hours.product_id
),

sales as (
    select
        hours.warehouse_id,
        hours.product_id,
        sum(hours.sold) as units_sold
    from hours
    cross join as_of
    cross join assumed
    where hours.event_hour >= dateadd(day, -assumed.sales_days, as_of.to_ts)
    group by hours.warehouse_id, hours.product_id
),

positions as (
    select
        as_of.as_of_date,
        stocks.warehouse_id,
        stocks.product_id,
        stocks.stock,
        stocks.last_counted_date,
        coalesce(sales.units_sold, 0) as units_sold,
        least(assumed.sales_days, datediff(day, warehouses.first_date, as_of.as_of_date) + 1) as observed_days
    from stocks
    inner join warehouses on stocks.warehouse_id = warehouses.warehouse_id
    left join sales on stocks.warehouse_id = sales.warehouse_id and stocks.product_id = sales.product_id
    cross join as_of
    cross join assumed
),

-- on_shelf: what is there for certain. More was booked out than in where the first count is still to come.
needs as (
    select
        positions.*,
        assumed.lead_time_days,
        greatest(positions.stock, 0) as on_shelf,
        ceil(
            positions.units_sold * (assumed.lead_time_days + assumed.safety_days) / positions.observed_days
        ) as reorder_point,
        ceil(
            positions.units_sold
            * (assumed.lead_time_days + assumed.safety_days + assumed.order_days)
            / positions.observed_days
        ) as target
    from positions
    cross join assumed
),

gone as (
    select product.product_id
    from core.product as product
    inner join as_of on product.valid_from_ts < as_of.to_ts and product.valid_to_ts >= as_of.to_ts
    where product.is_deleted
),

final as (
    select
        needs.as_of_date,
        needs.warehouse_id,
        needs.product_id,
        needs.stock,
        needs.last_counted_date,
        needs.units_sold,
        needs.observed_days,
        round(needs.units_sold / needs.observed_days, 4) as daily_units,
        iff(
            needs.units_sold > 0, round(needs.on_shelf * needs.observed_days / nullif(needs.units_sold, 0), 1), null
        ) as days_of_cover,
        needs.lead_time_days,
        needs.reorder_point,
        needs.units_sold > 0 and needs.on_shelf <= needs.reorder_point and gone.product_id is null as is_proposed,
        iff(
            needs.units_sold > 0 and needs.on_shelf <= needs.reorder_point and gone.product_id is null,
            needs.target - needs.on_shelf,
            0
        ) as proposed_units
    from needs
    left join gone on needs.product_id = gone.product_id
)

select * from final;
