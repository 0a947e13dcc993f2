-- Grain: one row per metric and what it is of, measured now from the ledger.
insert into ops.metric (metric_name, measured_of, measured, measured_ts)
with

slices as (
    select
        slice.*,
        datediff(second, slice.planned_ts, sysdate()) as age_s
    from ops.slice
),

last_day as (
    select
        part.topic,
        sum(part.delivered) as delivered,
        sum(part.dead_letters) as dead_letters
    from ops.slice_partition as part
    inner join slices on part.slice_id = slices.slice_id
    where slices.state = 'committed' and slices.committed_ts > dateadd(day, -1, sysdate())
    group by part.topic
),

final as (
    select
        'held_slices' as metric_name,
        'all' as measured_of,
        count_if(state = 'held') as measured
    from slices
    union all
    select
        'unfinished_slices' as metric_name,
        'planned over an hour ago' as measured_of,
        count_if(state in ('planned', 'staged', 'audited') and age_s > 3600) as measured
    from slices
    union all
    select
        'published_age_s' as metric_name,
        'hours' as measured_of,
        datediff(second, max(window_end), sysdate()) as measured
    from slices
    where kind = 'hour' and state = 'committed'
    union all
    select
        'published_age_s' as metric_name,
        'days' as measured_of,
        datediff(second, dateadd(day, 1, max(order_date)), sysdate()) as measured
    from ops.day
    union all
    select
        'dead_letter_share' as metric_name,
        topic as measured_of,
        dead_letters / nullif(delivered, 0) as measured
    from last_day
)

select
    metric_name,
    measured_of,
    measured,
    sysdate() as measured_ts
from final
where measured is not null;
