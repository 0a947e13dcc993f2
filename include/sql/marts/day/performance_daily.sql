-- Grain: one row per day, channel, page, app version and country. Recomputes the days in :days, a JSON list, from the
-- events: percentiles do not add up.
delete from marts.performance_daily
where event_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into marts.performance_daily (
    event_date,
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
    where to_date(event_ts) in (select value::date from table(flatten(input => parse_json(:days))))
),

final as (
    select
        to_date(event_ts) as event_date,
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
    group by to_date(event_ts), channel, page, coalesce(app_version, 'unknown'), country
)

select * from final;
