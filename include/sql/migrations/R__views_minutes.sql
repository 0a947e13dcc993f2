-- Minutes as dashboards see them: each from core or from live, never from both, never from none.

-- Grain: one row per stretch of minutes that is shown from live, from_ts <= minute < to_ts; stretches may overlap. The
-- ledger decides, so that minutes change sides in the transaction that publishes them.
--
-- Each slice takes what arrived since the slice before, so that the minutes before the end of the newest committed
-- window are in core: the seam. Before it those are not that a slice which is not committed (held, or overtaken) owns:
-- all that arrived since the slices planned before it, and before it was planned.
create or replace view ops.live_span copy grants as
with

slices as (
    select
        slice_id,
        state,
        planned_ts,
        -- A backfill reads up to the end of its window and does not wait for stragglers: they belong to a later slice.
        iff(kind = 'hour', window_end, dateadd(minute, -2, date_trunc('minute', window_end))) as complete_until
    from ops.slice
),

in_order as (
    select
        *,
        max(complete_until) over (
            order by planned_ts, slice_id
            rows between unbounded preceding and 1 preceding
        ) as claimed_until
    from slices
),

final as (
    select
        coalesce(max(complete_until), '1970-01-01'::timestamp_ntz) as from_ts,
        '9999-12-31'::timestamp_ntz as to_ts
    from slices
    where state = 'committed'
    union all
    select
        coalesce(claimed_until, '1970-01-01'::timestamp_ntz) as from_ts,
        dateadd(minute, 1, date_trunc('minute', planned_ts)) as to_ts
    from in_order
    where state <> 'committed'
)

select * from final;

-- Grain: one row per minute, country, category and channel.
create or replace view reporting.sales_by_minute copy grants as
select
    minute_ts,
    country,
    category,
    channel,
    units,
    net_sales
from marts.sales_minute as core
left join ops.live_span as span on core.minute_ts >= span.from_ts and core.minute_ts < span.to_ts
where span.from_ts is null
union all
select
    minute_ts,
    country,
    category,
    channel,
    units,
    net_sales
from live.sales_minute as live
where
    exists (
        select 1
        from ops.live_span as span
        where live.minute_ts >= span.from_ts and live.minute_ts < span.to_ts
    );

-- Grain: one row per minute, country and channel. sessions: those that began in it.
create or replace view reporting.activity_by_minute copy grants as
with

final as (
    select
        minute_ts,
        country,
        channel,
        orders,
        refunds,
        0 as sessions,
        views,
        carts
    from marts.activity_minute as core
    left join ops.live_span as span on core.minute_ts >= span.from_ts and core.minute_ts < span.to_ts
    where span.from_ts is null
    union all
    select
        date_trunc('minute', start_ts) as minute_ts,
        country,
        channel,
        0 as orders,
        0 as refunds,
        1 as sessions,
        0 as views,
        0 as carts
    from marts.session as core
    left join ops.live_span as span on core.start_ts >= span.from_ts and core.start_ts < span.to_ts
    where span.from_ts is null
    union all
    select
        minute_ts,
        country,
        channel,
        orders,
        refunds,
        sessions,
        views,
        carts
    from live.activity_minute as live
    where
        exists (
            select 1
            from ops.live_span as span
            where live.minute_ts >= span.from_ts and live.minute_ts < span.to_ts
        )
)

select
    minute_ts,
    country,
    channel,
    sum(orders) as orders,
    sum(refunds) as refunds,
    sum(sessions) as sessions,
    sum(views) as views,
    sum(carts) as carts
from final
group by minute_ts, country, channel;
