-- SCD2 dimensions. A version is valid for valid_from_ts <= t < valid_to_ts; the last one has no end.

-- Grain: one row per product and period in which its name did not change.
create table if not exists core.product (
    product_id varchar(32),
    product_name varchar(256),
    valid_from_ts timestamp_ntz,
    valid_to_ts timestamp_ntz,
    is_current boolean
);

-- Grain: one row per customer and period in which the country did not change.
create table if not exists core.customer (
    customer_id varchar(32),
    country varchar(64),
    valid_from_ts timestamp_ntz,
    valid_to_ts timestamp_ntz,
    is_current boolean
);
