-- Grain: one row per month of customers' first orders, and month since. Made anew as of the newest day in ops.day, from
-- marts.customer_daily.
delete from marts.cohort_monthly;

insert into marts.cohort_monthly (
    as_of_date,
    cohort_month,
    months_since,
    customers,
    active_customers,
    orders,
    net_sales
)
with

as_of as (
    select max(order_date) as as_of_date
    from ops.day
),

months as (
    select distinct date_trunc('month', order_date)::date as month_date
    from ops.day
),

first_orders as (
    select
        customer_id,
        date_trunc('month', min(order_date))::date as cohort_month
    from marts.customer_daily
    where orders > 0
    group by customer_id
),

cohorts as (
    select
        cohort_month,
        count(*) as customers
    from first_orders
    group by cohort_month
),

customer_months as (
    select
        first_orders.cohort_month,
        days.customer_id,
        date_trunc('month', days.order_date)::date as month_date,
        sum(days.orders) as orders,
        sum(days.net_sales) as net_sales
    from marts.customer_daily as days
    inner join first_orders on days.customer_id = first_orders.customer_id
    group by first_orders.cohort_month, days.customer_id, date_trunc('month', days.order_date)::date
),

active as (
    select
        cohort_month,
        month_date,
        count_if(orders > 0) as active_customers,
        sum(orders) as orders,
        sum(net_sales) as net_sales
    from customer_months
    group by cohort_month, month_date
),

-- Months in which none of a cohort came back have their row too: who averages rows must not miss them.
final as (
    select
        as_of.as_of_date,
        cohorts.cohort_month,
        datediff(month, cohorts.cohort_month, months.month_date) as months_since,
        cohorts.customers,
        coalesce(active.active_customers, 0) as active_customers,
        coalesce(active.orders, 0) as orders,
        coalesce(active.net_sales, 0) as net_sales
    from cohorts
    cross join as_of
    inner join months on cohorts.cohort_month <= months.month_date
    left join active on cohorts.cohort_month = active.cohort_month and months.month_date = active.month_date
)

select * from final;
