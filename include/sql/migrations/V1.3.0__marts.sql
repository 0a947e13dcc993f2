-- Sales marts. Only sales and returns are trade; gross is what was sold, returned what came back (a positive amount),
-- net their difference. A line counts by its sign.

-- Grain: one row per hour, country and channel.
create table if not exists marts.sales_hourly (
    order_hour timestamp_ntz,
    country varchar(64),
    channel varchar(16),
    orders number(18, 0),
    return_orders number(18, 0),
    units number(18, 0),
    gross_sales number(18, 4),
    returned_sales number(18, 4),
    net_sales number(18, 4)
)
cluster by (to_date(order_hour));

-- Grain: one row per day, country and channel.
create table if not exists marts.sales_daily (
    order_date date,
    country varchar(64),
    channel varchar(16),
    orders number(18, 0),
    return_orders number(18, 0),
    units number(18, 0),
    gross_sales number(18, 4),
    returned_sales number(18, 4),
    net_sales number(18, 4)
)
cluster by (order_date);

-- Grain: one row per day, country and product.
create table if not exists marts.product_daily (
    order_date date,
    country varchar(64),
    product_id varchar(32),
    orders number(18, 0),
    units number(18, 0),
    net_sales number(18, 4)
)
cluster by (order_date);
