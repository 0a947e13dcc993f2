-- Grain: one row per hour, country and channel.
create or replace view reporting.sales_by_hour copy grants as
select * from marts.sales_hourly;

-- Grain: one row per day, country and channel: rolled up days, and the hours so far of days that are not.
create or replace view reporting.sales_by_day copy grants as
with

open_days as (
    select
        to_date(order_hour) as order_date,
        country,
        channel,
        sum(orders) as orders,
        sum(return_orders) as return_orders,
        sum(units) as units,
        sum(gross_sales) as gross_sales,
        sum(returned_sales) as returned_sales,
        sum(net_sales) as net_sales
    from marts.sales_hourly
    where to_date(order_hour) not in (select order_date from ops.day)
    group by all
),

final as (
    select * from marts.sales_daily
    union all
    select * from open_days
)

select * from final;

-- Grain: one row per day, country, product and the category that it had at the time, of days that are rolled up.
-- product_name: today's.
create or replace view reporting.product_by_day copy grants as
select
    product_daily.order_date,
    product_daily.country,
    product_daily.product_id,
    product.product_name,
    product_daily.category,
    product_daily.orders,
    product_daily.units,
    product_daily.net_sales
from marts.product_daily
left join core.product on product_daily.product_id = product.product_id and product.is_current;

-- Grain: one row per slice, with the counts of all its partitions. committed_at: when it was first published;
-- published_at: when last, by a replay or with a fix. forced_by: who published it against its audit.
create or replace view reporting.slice_status copy grants as
with

counts as (
    select
        slice_id,
        sum(delivered) as delivered,
        sum(published) as published,
        sum(duplicates) as duplicates,
        sum(dead_letters) as dead_letters,
        sum(erased) as erased,
        sum(holes) as holes
    from ops.slice_partition
    group by slice_id
),

final as (
    select
        slice.slice_id,
        slice.kind,
        slice.window_start,
        slice.window_end,
        slice.state,
        counts.delivered,
        counts.published,
        counts.duplicates,
        counts.dead_letters,
        counts.erased,
        counts.holes,
        slice.hours_touched,
        slice.planned_ts as planned_at,
        slice.committed_ts as committed_at,
        slice.published_ts as published_at,
        slice.plan_s,
        slice.transform_s,
        slice.stage_s,
        slice.audit_s,
        slice.publish_s,
        slice.audit_result,
        forced.forced_by,
        forced.forced_ts as forced_at,
        forced.reason as forced_reason
    from ops.slice
    left join counts on slice.slice_id = counts.slice_id
    left join ops.forced on slice.slice_id = forced.slice_id
)

select * from final;

-- Grain: one row per history that was sent, with its first and last day as shown.
create or replace view reporting.history copy grants as
select
    topic,
    shift_weeks,
    events,
    lines,
    sent_ts
from ops.history;

-- Grain: one row per hour, country, channel and category.
create or replace view reporting.sales_by_category copy grants as
select * from marts.sales_category_hourly;

-- Grain: one row per day, country, channel and category, of days that are rolled up.
create or replace view reporting.sales_by_category_day copy grants as
select * from marts.sales_category_daily;

-- Grain: one row per hour, country, channel and loyalty tier.
create or replace view reporting.sales_by_loyalty copy grants as
select * from marts.sales_loyalty_hourly;

-- Grain: one row per hour in which sessions began, channel, country, device and referrer.
create or replace view reporting.funnel_by_hour copy grants as
select * from marts.funnel_hourly;

-- Grain: one row per hour, channel, page, app version and country.
create or replace view reporting.performance_by_hour copy grants as
select * from marts.performance_hourly;

-- Grain: one row per day, channel, page, app version and country.
create or replace view reporting.performance_by_day copy grants as
select * from marts.performance_daily;

-- Grain: one row per warehouse and product: the last count, and what was booked since; before the first count what was
-- booked.
create or replace view reporting.stock_position copy grants as
with

last_counts as (
    select
        warehouse_id,
        product_id,
        max(event_hour) as counted_hour
    from marts.stock_hourly
    where counted is not null
    group by warehouse_id, product_id
),

final as (
    select
        hours.warehouse_id,
        hours.product_id,
        sum(coalesce(hours.counted, 0) + hours.change) as stock,
        max(hours.event_hour) as last_moved_hour,
        max(last_counts.counted_hour) as last_counted_hour
    from marts.stock_hourly as hours
    left join last_counts
        on hours.warehouse_id = last_counts.warehouse_id and hours.product_id = last_counts.product_id
    where last_counts.counted_hour is null or hours.event_hour >= last_counts.counted_hour
    group by hours.warehouse_id, hours.product_id
)

select
    final.*,
    product.product_name,
    product.category,
    product.reorder_point
from final
left join core.product on final.product_id = product.product_id and product.is_current;

-- Grain: one row per hour and sensor.
create or replace view reporting.sensors_by_hour copy grants as
select * from marts.sensor_hourly;

-- Grain: one row per hour, reason and channel of support.
create or replace view reporting.support_by_hour copy grants as
select * from marts.support_hourly;

-- Grain: one row per day, customer and country, of days that are rolled up. Guests are not in it.
create or replace view reporting.customers_by_day copy grants as
select * from marts.customer_daily;

-- Grain: one row per customer who has ordered, as of the newest day that is rolled up. country, loyalty_tier: today's,
-- empty for customers without a word in crm.customers.
create or replace view reporting.customer_segment copy grants as
select
    customer_segment.*,
    customer.country,
    customer.loyalty_tier
from marts.customer_segment
left join core.customer on customer_segment.customer_id = customer.customer_id and customer.is_current;

-- Grain: one row per month of customers' first orders, and month since, as of the newest day that is rolled up.
create or replace view reporting.cohorts_by_month copy grants as
select * from marts.cohort_monthly;

-- Grain: one row per product and other product that is bought with it, as of the newest day that is rolled up. Names:
-- today's.
create or replace view reporting.product_affinity copy grants as
select
    product_affinity.*,
    product.product_name,
    other_product.product_name as other_product_name
from marts.product_affinity
left join core.product on product_affinity.product_id = product.product_id and product.is_current
left join core.product as other_product
    on product_affinity.other_product_id = other_product.product_id and other_product.is_current;

-- Grain: one row per warehouse and product that ever moved in it, as of the end of the newest day that is rolled up.
-- Name, category, supplier and catalogue_reorder_point, which is for all warehouses together: today's.
create or replace view reporting.stock_cover copy grants as
select
    stock_cover.*,
    product.product_name,
    product.category,
    product.supplier,
    product.reorder_point as catalogue_reorder_point
from marts.stock_cover
left join core.product on stock_cover.product_id = product.product_id and product.is_current;

-- Grain: one row per day on which tickets were opened, reason and channel, of days that are rolled up; a day is final
-- after 30 days.
create or replace view reporting.support_by_day copy grants as
select * from marts.support_daily;

-- Grain: one row per topic and reason for which events became dead letters. reason: where and what, without anything
-- that it quotes of an event. open: nobody has decided about them; decided: a rule is on its way; mended: by a rule,
-- no longer dead letters; rejected_again: the rule did not help, another one may. newest_arrival_ts: of those that are
-- not mended.
create or replace view reporting.dead_letter_by_reason copy grants as
with

letters as (
    select
        dead_letter.topic,
        dead_letter.reason,
        dead_letter.arrival_ts,
        fix.rule_name,
        fix.decided_ts,
        case
            when fix.rule_name is null then 'open'
            when fix.outcome is null then 'decided'
            else 'rejected_again'
        end as state
    from ops.dead_letter
    left join ops.fix
        on
            dead_letter.topic = fix.topic
            and dead_letter.partition = fix.partition
            and dead_letter.offset = fix.offset
),

mended as (
    select
        fix.topic,
        fix.was_rejected_for as reason,
        cast(null as timestamp_ntz) as arrival_ts,
        fix.rule_name,
        fix.decided_ts,
        'mended' as state
    from ops.fix
    left join ops.dead_letter
        on
            fix.topic = dead_letter.topic
            and fix.partition = dead_letter.partition
            and fix.offset = dead_letter.offset
    where dead_letter.slice_id is null
),

both_kinds as (
    select * from letters
    union all
    select * from mended
),

-- Up to the first colon a reason says where; what it quotes there is in single quotes. After it only words of ours.
said as (
    select
        topic,
        regexp_replace(
            regexp_replace(split_part(reason, ': ', 1), '''.*''', '...'), '\\[[0-9]+\\]', '[]'
        ) as place,
        regexp_substr(
            reason,
            'is below the minimum|is above the maximum|does not fit|is before|ahead of its arrival|a card number'
        ) as words,
        rule_name,
        arrival_ts,
        decided_ts,
        state
    from both_kinds
),

final as (
    select
        topic,
        place || coalesce(': ' || nullif(words, ''), '') as reason,
        count_if(state = 'open') as open,
        count_if(state = 'decided') as decided,
        count_if(state = 'mended') as mended,
        count_if(state = 'rejected_again') as rejected_again,
        listagg(distinct rule_name, ', ') within group (order by rule_name) as rules,
        max(arrival_ts) as newest_arrival_ts,
        max(decided_ts) as last_decision_ts
    from said
    group by all
)

select * from final;
