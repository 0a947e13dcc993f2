-- Grain: one row per visitor and session; a session ends when the visitor does nothing for 30 minutes, so it may begin
-- in one slice and end in another, days later. Who never pauses begins a new one at the first midnight (UTC) after
-- about a day (23.5 hours) and at each one after it: a session that grows for ever would be computed anew every hour.
-- Recomputes the sessions that the hours in staging.touched_hour can have changed, and the funnel of the hours in which
-- those sessions began or begin.

-- The stretches of time to look at: each visitor's events in the hours, with the sessions they may join. No session
-- spans more than two days, so sessions that matter began between two days before such an hour and two days after.
delete from staging.session_scope;

insert into staging.session_scope (visitor_id, from_ts, to_ts)
with

days as (
    select distinct dateadd(day, offsets.value, to_date(touched_hour.event_hour)) as start_date
    from staging.touched_hour
    cross join table(flatten(input => parse_json('[-2, -1, 0, 1, 2]'))) as offsets
),

near as (
    select
        visitor_id,
        start_ts,
        end_ts
    from marts.session
    where
        start_ts >= dateadd(day, -2, :first_day::timestamp_ntz)
        and start_ts < dateadd(day, 2, :past_last_day::timestamp_ntz)
        and to_date(start_ts) in (select days.start_date from days)
),

active as (
    select
        visitor_id,
        min(event_ts) as from_ts,
        max(event_ts) as to_ts
    from core.interaction
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select touched_hour.event_hour from staging.touched_hour)
    group by visitor_id, event_hour
),

-- Sessions of the hours whose events may be gone.
overlapping as (
    select
        near.visitor_id,
        near.start_ts as from_ts,
        near.end_ts as to_ts
    from near
    inner join staging.touched_hour as hours
        on near.start_ts < dateadd(hour, 1, hours.event_hour) and near.end_ts >= hours.event_hour
),

touched as (
    select * from active
    union distinct
    select * from overlapping
),

joined as (
    select
        near.visitor_id,
        near.start_ts as from_ts,
        near.end_ts as to_ts
    from near
    inner join touched
        on
            near.visitor_id = touched.visitor_id
            and near.start_ts <= dateadd(minute, 30, touched.to_ts)
            and near.end_ts >= dateadd(minute, -30, touched.from_ts)
),

final as (
    select * from touched
    union distinct
    select * from joined
)

select * from final;

delete from marts.funnel_hourly
where session_hour in (
    select session.session_hour
    from marts.session
    inner join staging.session_scope as scope
        on
            session.visitor_id = scope.visitor_id
            and session.start_ts <= scope.to_ts
            and session.end_ts >= scope.from_ts
);

delete from marts.session
using staging.session_scope as scope
where
    session.visitor_id = scope.visitor_id
    and session.start_ts <= scope.to_ts
    and session.end_ts >= scope.from_ts;

insert into marts.session (
    visitor_id,
    start_ts,
    end_ts,
    session_hour,
    channel,
    country,
    device,
    referrer,
    campaign,
    customer_id,
    interactions,
    product_views,
    cart_adds,
    checkouts,
    purchases,
    errors
)
with

days as (
    select to_date(from_ts) as event_date
    from staging.session_scope
    union distinct
    select to_date(to_ts) as event_date
    from staging.session_scope
),

events as (
    select interaction.*
    from core.interaction
    where
        event_ts >= dateadd(day, -4, :first_day::timestamp_ntz)
        and event_ts < dateadd(day, 4, :past_last_day::timestamp_ntz)
        and to_date(event_ts) in (select days.event_date from days)
        and exists (
            select 1
            from staging.session_scope as scope
            where
                interaction.visitor_id = scope.visitor_id
                and interaction.event_ts >= scope.from_ts
                and interaction.event_ts <= scope.to_ts
        )
),

after_others as (
    select
        *,
        lag(event_ts) over (partition by visitor_id order by event_ts, event_id) as previous_ts
    from events
),

after_pauses as (
    select
        *,
        coalesce(event_ts > dateadd(minute, 30, previous_ts), true) as is_after_pause
    from after_others
),

-- A visit: what happens without a pause.
visits as (
    select
        *,
        max(iff(is_after_pause, event_ts, null)) over (
            partition by visitor_id
            order by event_ts, event_id
            rows between unbounded preceding and current row
        ) as visit_ts
    from after_pauses
),

-- part_ts: the midnight that a part of a visit begins after, or the begin of the visit.
parts as (
    select
        *,
        iff(
            date_trunc('day', event_ts) >= dateadd(minute, 1410, visit_ts), date_trunc('day', event_ts), visit_ts
        ) as part_ts
    from visits
),

numbered as (
    select
        *,
        is_after_pause or previous_ts < part_ts as is_first
    from parts
),

final as (
    select
        visitor_id,
        min(event_ts) as start_ts,
        max(event_ts) as end_ts,
        date_trunc('hour', min(event_ts)) as session_hour,
        max(iff(is_first, channel, null)) as channel,
        max(iff(is_first, country, null)) as country,
        max(iff(is_first, device, null)) as device,
        coalesce(max(iff(is_first, referrer, null)), 'unknown') as referrer,
        max(iff(is_first, campaign, null)) as campaign,
        max(customer_id) as customer_id,
        count(*) as interactions,
        count_if(interaction_type = 'product_view') as product_views,
        count_if(interaction_type = 'add_to_cart') as cart_adds,
        count_if(interaction_type = 'checkout') as checkouts,
        count_if(interaction_type = 'purchase') as purchases,
        count_if(interaction_type = 'error') as errors
    from numbered
    group by visitor_id, part_ts
)

select * from final;

delete from marts.funnel_hourly
where session_hour in (
    select session.session_hour
    from marts.session
    inner join staging.session_scope as scope
        on
            session.visitor_id = scope.visitor_id
            and session.start_ts <= scope.to_ts
            and session.end_ts >= scope.from_ts
);

-- What was deleted above is what is missing now.
insert into marts.funnel_hourly (
    session_hour,
    channel,
    country,
    device,
    referrer,
    sessions,
    bounces,
    with_product_view,
    with_cart,
    with_checkout,
    with_purchase,
    interactions,
    seconds
)
select
    session_hour,
    channel,
    country,
    device,
    referrer,
    count(*) as sessions,
    count_if(interactions = 1) as bounces,
    count_if(product_views > 0) as with_product_view,
    count_if(cart_adds > 0) as with_cart,
    count_if(checkouts > 0) as with_checkout,
    count_if(purchases > 0) as with_purchase,
    sum(interactions) as interactions,
    sum(datediff(second, start_ts, end_ts)) as seconds
from marts.session
where
    session_hour >= dateadd(day, -4, :first_day::timestamp_ntz)
    and session_hour < dateadd(day, 4, :past_last_day::timestamp_ntz)
    and to_date(session_hour) in (
        select to_date(scope.from_ts)
        from staging.session_scope as scope
        union distinct
        select to_date(scope.to_ts)
        from staging.session_scope as scope
    )
    and session_hour not in (
        select funnel_hourly.session_hour
        from marts.funnel_hourly
        where
            funnel_hourly.session_hour >= dateadd(day, -4, :first_day::timestamp_ntz)
            and funnel_hourly.session_hour < dateadd(day, 4, :past_last_day::timestamp_ntz)
    )
group by session_hour, channel, country, device, referrer;

delete from staging.session_scope;
