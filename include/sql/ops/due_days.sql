-- Grain: one row per day that is to be rolled up: the ledger covers it, none of its windows waits for somebody, and a
-- slice that touched it was published after its marts were made, if they ever were. due_ts: since when, or from when
-- on; a day is corrected again after :pause_s seconds at the soonest. Slices that a backfill is replaying are left to
-- it.
with

replaying as (
    select
        from_ts,
        to_ts
    from ops.backfill
    where backfill_mode = 'replay' and done_ts is null and planned_ts > dateadd(day, -1, sysdate())
),

published as (
    select
        slice.slice_id,
        slice.published_ts
    from ops.slice
    left join replaying on slice.window_start < replaying.to_ts and slice.window_end > replaying.from_ts
    where slice.state = 'committed' and replaying.from_ts is null
),

touched as (
    select
        to_date(slice_hour.event_hour) as order_date,
        max(published.published_ts) as published_ts
    from ops.slice_hour
    inner join published on slice_hour.slice_id = published.slice_id
    group by to_date(slice_hour.event_hour)
),

covered as (
    select max(window_end) as to_ts
    from ops.slice
    where kind = 'hour' and state = 'committed'
),

waiting as (
    select distinct touched.order_date
    from touched
    inner join ops.slice
        on dateadd(day, 1, touched.order_date) > slice.window_start and touched.order_date < slice.window_end
    where slice.kind = 'hour' and slice.state <> 'committed'
),

final as (
    select
        touched.order_date,
        done.rolled_up_ts is not null as is_correction,
        greatest(
            touched.published_ts,
            coalesce(dateadd(second, :pause_s, done.corrected_ts), touched.published_ts)
        ) as due_ts
    from touched
    inner join covered on dateadd(day, 1, touched.order_date) <= covered.to_ts
    left join ops.day as done on touched.order_date = done.order_date
    left join waiting on touched.order_date = waiting.order_date
    where waiting.order_date is null and (done.rolled_up_ts is null or touched.published_ts > done.rolled_up_ts)
)

select
    order_date,
    is_correction,
    due_ts
from final
order by order_date
