-- Grain: one row per customer who has ordered. Made anew as of the newest day in ops.day, from marts.customer_daily.
delete from marts.customer_segment;

insert into marts.customer_segment (
    as_of_date,
    customer_id,
    first_order_date,
    last_order_date,
    recency_days,
    orders,
    net_sales,
    recency_score,
    frequency_score,
    monetary_score,
    segment
)
with

-- The segments by their scores of recency and frequency; every pair of scores is in exactly one.
rules as (
    select
        column1 as segment,
        column2 as recency_from,
        column3 as recency_to,
        column4 as frequency_from,
        column5 as frequency_to
    from
        values
        ('Champions', 5, 5, 4, 5),
        ('Loyal', 3, 4, 4, 5),
        ('Potential loyal', 4, 5, 2, 3),
        ('New', 5, 5, 1, 1),
        ('Promising', 4, 4, 1, 1),
        ('Needs attention', 3, 3, 3, 3),
        ('About to sleep', 3, 3, 1, 2),
        ('Cannot lose', 1, 2, 5, 5),
        ('At risk', 1, 2, 3, 4),
        ('Hibernating', 1, 2, 1, 2)
),

as_of as (
    select max(order_date) as as_of_date
    from ops.day
),

customers as (
    select
        as_of.as_of_date,
        days.customer_id,
        min(iff(days.orders > 0, days.order_date, null)) as first_order_date,
        max(iff(days.orders > 0, days.order_date, null)) as last_order_date,
        sum(iff(days.order_date > dateadd(day, -365, as_of.as_of_date), days.orders, 0)) as orders,
        sum(iff(days.order_date > dateadd(day, -365, as_of.as_of_date), days.net_sales, 0)) as net_sales
    from marts.customer_daily as days
    cross join as_of
    where days.order_date <= as_of.as_of_date
    group by as_of.as_of_date, days.customer_id
    having sum(days.orders) > 0
),

-- Active are those who ordered in the last 365 days: only they are ranked. lower_*: five times the customers below.
ranked as (
    select
        *,
        orders > 0 as is_active,
        count(*) over (partition by orders > 0) as peers,
        5 * (rank() over (partition by orders > 0 order by last_order_date) - 1) as lower_recency,
        5 * (rank() over (partition by orders > 0 order by orders) - 1) as lower_frequency,
        5 * (rank() over (partition by orders > 0 order by net_sales) - 1) as lower_monetary
    from customers
),

-- Whole fifths, by division without a remainder: exact at any number of customers.
scored as (
    select
        as_of_date,
        customer_id,
        first_order_date,
        last_order_date,
        datediff(day, last_order_date, as_of_date) as recency_days,
        orders,
        net_sales,
        is_active,
        iff(is_active, 1 + (lower_recency - mod(lower_recency, peers)) / peers, 1) as recency_score,
        iff(is_active, 1 + (lower_frequency - mod(lower_frequency, peers)) / peers, 1) as frequency_score,
        iff(is_active, 1 + (lower_monetary - mod(lower_monetary, peers)) / peers, 1) as monetary_score
    from ranked
),

final as (
    select
        scored.as_of_date,
        scored.customer_id,
        scored.first_order_date,
        scored.last_order_date,
        scored.recency_days,
        scored.orders,
        scored.net_sales,
        scored.recency_score,
        scored.frequency_score,
        scored.monetary_score,
        iff(scored.is_active, rules.segment, 'Lost') as segment
    from scored
    inner join rules
        on
            scored.recency_score between rules.recency_from and rules.recency_to
            and scored.frequency_score between rules.frequency_from and rules.frequency_to
)

select * from final;
