-- Grain: one row per hour, channel, page, app version and country. Recomputes the hours in staging.touched_hour, from
-- the events: percentiles do not add up.
delete from marts.performance_hourly
where
    event_hour >= :first_day
    and event_hour < :past_last_day
    and event_hour in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.performance_hourly (
    event_hour,
    channel,
    page,
    app_version,
    country,
    interactions,
    errors,
    loads,
    load_p50_ms,
    load_p95_ms
)
with

events as (
    select *
    from core.interaction
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select touched_hour.event_hour from staging.touched_hour)
),

final as (
    select
        event_hour,
        channel,
        page,
        coalesce(app_version, 'unknown') as app_version,
        country,
        count(*) as interactions,
        count_if(interaction_type = 'error') as errors,
        count(page_load_ms) as loads,
        round(percentile_cont(0.5) within group (order by page_load_ms)) as load_p50_ms,
        round(percentile_cont(0.95) within group (order by page_load_ms)) as load_p95_ms
    from events
    group by event_hour, channel, page, coalesce(app_version, 'unknown'), country
)

select * from final;
