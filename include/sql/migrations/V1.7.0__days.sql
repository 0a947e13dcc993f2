-- Marts of customers, baskets, stock and support by day. Those with as_of_date are made anew as a whole by each
-- roll-up, as of the newest day in ops.day.

-- Grain: one row per day, customer and country.
create table if not exists marts.customer_daily (
    order_date date,
    customer_id varchar(32),
    country varchar(64),
    orders number(18, 0),
    return_orders number(18, 0),
    units number(18, 0),
    gross_sales number(18, 4),
    returned_sales number(18, 4),
    net_sales number(18, 4)
)
cluster by (order_date);

-- Grain: one row per day on which tickets were opened, reason and channel.
create table if not exists marts.support_daily (
    opened_date date,
    reason varchar(16),
    channel varchar(16),
    opened number(18, 0),
    answered number(18, 0),
    answered_in_time number(18, 0),
    answer_p50_min number(18, 1),
    answer_p90_min number(18, 1),
    escalated number(18, 0),
    closed number(18, 0),
    close_p50_min number(18, 1),
    close_p90_min number(18, 1),
    open_at_day_end number(18, 0),
    ratings number(18, 0),
    satisfaction_sum number(18, 0)
)
cluster by (opened_date);

-- Grain: one row per customer.
create table if not exists marts.customer_segment (
    as_of_date date,
    customer_id varchar(32),
    first_order_date date,
    last_order_date date,
    recency_days number(9, 0),
    orders number(18, 0),
    net_sales number(18, 4),
    recency_score number(1, 0),
    frequency_score number(1, 0),
    monetary_score number(1, 0),
    segment varchar(32)
);

-- Grain: one row per month of customers' first orders, and month since.
create table if not exists marts.cohort_monthly (
    as_of_date date,
    cohort_month date,
    months_since number(9, 0),
    customers number(18, 0),
    active_customers number(18, 0),
    orders number(18, 0),
    net_sales number(18, 4)
);

-- Grain: one row per product and other product that is bought with it; each pair in both directions.
create table if not exists marts.product_affinity (
    as_of_date date,
    product_id varchar(32),
    other_product_id varchar(32),
    baskets number(18, 0),
    orders_product number(18, 0),
    orders_other number(18, 0),
    orders_together number(18, 0),
    pair_support number(9, 6),
    confidence number(9, 6),
    lift number(18, 4)
)
cluster by (product_id);

-- Grain: one row per warehouse and product that ever moved in it.
create table if not exists marts.stock_cover (
    as_of_date date,
    warehouse_id varchar(16),
    product_id varchar(32),
    stock number(18, 0),
    last_counted_date date,
    units_sold number(18, 0),
    observed_days number(9, 0),
    daily_units number(18, 4),
    days_of_cover number(18, 1),
    lead_time_days number(9, 0),
    reorder_point number(18, 0),
    is_proposed boolean,
    proposed_units number(18, 0)
);
