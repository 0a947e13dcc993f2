-- Dimensions from change events, and the marts of visits, performance, stock, sensors and support.

-- The dimensions before were made from orders; these are made from catalog.products and crm.customers.
drop table if exists core.product;

drop table if exists core.customer;

-- SCD2. A version is valid for valid_from_ts <= t < valid_to_ts, without gap or overlap: the first one from
-- 1900-01-01 on, so that a fact from before the first word about a product finds it, the last one to 9999-12-31. A
-- deleted product or customer has a last version with is_deleted. slice_id: the slice that brought the change.

-- Grain: one row per product and period in which nothing about it changed.
create table if not exists core.product (
    product_id varchar(32),
    product_name varchar(256),
    category varchar(64),
    list_price number(12, 3),
    unit_cost number(12, 3),
    reorder_point number(9, 0),
    supplier varchar(64),
    is_deleted boolean,
    valid_from_ts timestamp_ntz,
    valid_to_ts timestamp_ntz,
    is_current boolean,
    slice_id varchar(64)
);

-- Grain: one row per customer and period in which nothing about the account changed.
create table if not exists core.customer (
    customer_id varchar(32),
    country varchar(64),
    loyalty_tier varchar(16),
    accepts_marketing boolean,
    is_deleted boolean,
    valid_from_ts timestamp_ntz,
    valid_to_ts timestamp_ntz,
    is_current boolean,
    slice_id varchar(64)
);

-- Grain: one row per hour, country, channel and category. An order counts in each category that it has lines of.
create table if not exists marts.sales_category_hourly (
    order_hour timestamp_ntz,
    country varchar(64),
    channel varchar(16),
    category varchar(64),
    orders number(18, 0),
    units number(18, 0),
    gross_sales number(18, 4),
    returned_sales number(18, 4),
    net_sales number(18, 4)
)
cluster by (to_date(order_hour));

-- Grain: one row per visitor and session, which ends 30 minutes before the visitor's next event.
create table if not exists marts.session (
    visitor_id varchar(32),
    start_ts timestamp_ntz,
    end_ts timestamp_ntz,
    session_hour timestamp_ntz,
    channel varchar(16),
    country varchar(64),
    device varchar(16),
    referrer varchar(32),
    campaign varchar(32),
    customer_id varchar(32),
    interactions number(18, 0),
    product_views number(18, 0),
    cart_adds number(18, 0),
    checkouts number(18, 0),
    purchases number(18, 0),
    errors number(18, 0)
)
cluster by (to_date(start_ts));

-- Grain: one row per visitor and stretch of time whose sessions are being computed; empty between publications.
create table if not exists staging.session_scope (
    visitor_id varchar(32),
    from_ts timestamp_ntz,
    to_ts timestamp_ntz
);

-- Grain: one row per hour in which sessions began, channel, country, device and referrer.
create table if not exists marts.funnel_hourly (
    session_hour timestamp_ntz,
    channel varchar(16),
    country varchar(64),
    device varchar(16),
    referrer varchar(32),
    sessions number(18, 0),
    bounces number(18, 0),
    with_product_view number(18, 0),
    with_cart number(18, 0),
    with_checkout number(18, 0),
    with_purchase number(18, 0),
    interactions number(18, 0),
    seconds number(18, 0)
)
cluster by (to_date(session_hour));

-- Grain: one row per hour, channel, page, app version and country.
create table if not exists marts.performance_hourly (
    event_hour timestamp_ntz,
    channel varchar(16),
    page varchar(32),
    app_version varchar(16),
    country varchar(64),
    interactions number(18, 0),
    errors number(18, 0),
    loads number(18, 0),
    load_p50_ms number(9, 0),
    load_p95_ms number(9, 0)
)
cluster by (to_date(event_hour));

-- Grain: one row per day, channel, page, app version and country.
create table if not exists marts.performance_daily (
    event_date date,
    channel varchar(16),
    page varchar(32),
    app_version varchar(16),
    country varchar(64),
    interactions number(18, 0),
    errors number(18, 0),
    loads number(18, 0),
    load_p50_ms number(9, 0),
    load_p95_ms number(9, 0)
)
cluster by (event_date);

-- Grain: one row per hour, warehouse and product that moved. counted: the hour's last count, change: what was booked
-- after it, or in the whole hour when nothing was counted.
create table if not exists marts.stock_hourly (
    event_hour timestamp_ntz,
    warehouse_id varchar(16),
    product_id varchar(32),
    sold number(18, 0),
    returned number(18, 0),
    refilled number(18, 0),
    transferred number(18, 0),
    counted number(18, 0),
    change number(18, 0)
)
cluster by (to_date(event_hour));

-- Grain: one row per hour and sensor.
create table if not exists marts.sensor_hourly (
    event_hour timestamp_ntz,
    warehouse_id varchar(16),
    device_id varchar(32),
    sensor_type varchar(16),
    readings number(18, 0),
    lowest number(12, 3),
    average number(12, 3),
    highest number(12, 3),
    battery_percent number(3, 0)
)
cluster by (to_date(event_hour));

-- Grain: one row per hour, reason and channel of support.
create table if not exists marts.support_hourly (
    event_hour timestamp_ntz,
    reason varchar(16),
    channel varchar(16),
    opened number(18, 0),
    answered number(18, 0),
    escalated number(18, 0),
    closed number(18, 0),
    ratings number(18, 0),
    satisfaction_sum number(18, 0)
)
cluster by (to_date(event_hour));
