-- What a publication computes anew is named in tables, not pasted into statements, which have a size limit. Who
-- holds ops.publish_lock fills them anew.

-- Grain: one row per hour whose events or marts the publication changes.
create table if not exists staging.touched_hour (
    event_hour timestamp_ntz
);

-- Grain: one row per product that the publication has a change of, with the versions it had before; one row without a
-- version when it had none.
create table if not exists staging.touched_product (
    product_id varchar(32),
    category varchar(64),
    valid_from_ts timestamp_ntz,
    valid_to_ts timestamp_ntz
);

-- Grain: one row per customer that the publication has a change of, with the versions it had before; one row without a
-- version when it had none.
create table if not exists staging.touched_customer (
    customer_id varchar(32),
    loyalty_tier varchar(16),
    valid_from_ts timestamp_ntz,
    valid_to_ts timestamp_ntz
);

-- Grain: one row per hour, country, channel and loyalty tier.
create table if not exists marts.sales_loyalty_hourly (
    order_hour timestamp_ntz,
    country varchar(64),
    channel varchar(16),
    loyalty_tier varchar(16),
    orders number(18, 0),
    return_orders number(18, 0),
    units number(18, 0),
    gross_sales number(18, 4),
    returned_sales number(18, 4),
    net_sales number(18, 4)
)
cluster by (to_date(order_hour));

-- Grain: one row per day, country, channel and category.
create table if not exists marts.sales_category_daily (
    order_date date,
    country varchar(64),
    channel varchar(16),
    category varchar(64),
    orders number(18, 0),
    units number(18, 0),
    gross_sales number(18, 4),
    returned_sales number(18, 4),
    net_sales number(18, 4)
)
cluster by (order_date);

-- Its grain is now: one row per day, country, product and category.
alter table marts.product_daily add column if not exists category varchar(64);

update marts.product_daily
set category = 'Unknown'
where category is null;
