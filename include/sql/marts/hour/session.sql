-- Grain: one row per visitor and session; a session ends when the visitor does nothing for 30 minutes, so it may begin
-- in one slice and end in another, days later. Recomputes the sessions that the hours in :hours, a JSON list, can have
-- changed, and the funnel of the hours in which those sessions began or begin.

-- The stretches of time to look at: each visitor's events in the hours, with the sessions they may join.
delete from staging.session_scope;

insert into staging.session_scope (visitor_id, from_ts, to_ts)
with

hours as (
    select value::timestamp_ntz as event_hour
    from table(flatten(input => parse_json(:hours)))
),

active as (
    select
        visitor_id,
        min(event_ts) as from_ts,
        max(event_ts) as to_ts
    from core.interaction
    where event_hour in (select hours.event_hour from hours)
    group by visitor_id, event_hour
),

joined as (
    select
        session.visitor_id,
        session.start_ts as from_ts,
        session.end_ts as to_ts
    from marts.session
    inner join active
        on
            session.visitor_id = active.visitor_id
            and session.start_ts <= dateadd(minute, 30, active.to_ts)
            and session.end_ts >= dateadd(minute, -30, active.from_ts)
),

-- Sessions of the hours whose events may be gone.
overlapping as (
    select
        session.visitor_id,
        session.start_ts as from_ts,
        session.end_ts as to_ts
    from marts.session
    inner join hours
        on session.start_ts < dateadd(hour, 1, hours.event_hour) and session.end_ts >= hours.event_hour
),

final as (
    select * from active
    union distinct
    select * from joined
    union distinct
    select * from overlapping
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

events as (
    select interaction.*
    from core.interaction
    where
        event_hour >= (select date_trunc('hour', min(from_ts)) from staging.session_scope)
        and exists (
            select 1
            from staging.session_scope as scope
            where
                interaction.visitor_id = scope.visitor_id
                and interaction.event_ts >= scope.from_ts
                and interaction.event_ts <= scope.to_ts
        )
),

marked as (
    select
        *,
        coalesce(
            event_ts > dateadd(
                minute, 30, lag(event_ts) over (partition by visitor_id order by event_ts, event_id)
            ),
            true
        ) as is_first
    from events
),

numbered as (
    select
        *,
        sum(iff(is_first, 1, 0)) over (
            partition by visitor_id
            order by event_ts, event_id
            rows between unbounded preceding and current row
        ) as session_no
    from marked
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
    group by visitor_id, session_no
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
    session_hour >= (select date_trunc('hour', min(from_ts)) from staging.session_scope)
    and session_hour not in (select funnel_hourly.session_hour from marts.funnel_hourly)
group by session_hour, channel, country, device, referrer;

delete from staging.session_scope;
