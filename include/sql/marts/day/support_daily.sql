-- Grain: one row per day on which tickets were opened, reason and channel. The rules are in the YAML twin. A step moves
-- the days on which its ticket can have been opened: recomputes what is rolled up of the 30 days before and after each
-- of the days in :days, a JSON list.
delete from marts.support_daily
where opened_date in (
    select day.order_date
    from ops.day
    cross join table(flatten(input => parse_json(:days))) as days
    where day.order_date between dateadd(day, -30, days.value::date) and dateadd(day, 30, days.value::date)
);

insert into marts.support_daily (
    opened_date,
    reason,
    channel,
    opened,
    answered,
    answered_in_time,
    answer_p50_min,
    answer_p90_min,
    escalated,
    closed,
    close_p50_min,
    close_p90_min,
    open_at_day_end,
    ratings,
    satisfaction_sum
)
with

opened_days as (
    select distinct day.order_date as opened_date
    from ops.day
    cross join table(flatten(input => parse_json(:days))) as days
    where day.order_date between dateadd(day, -30, days.value::date) and dateadd(day, 30, days.value::date)
),

as_of as (
    select dateadd(day, 1, max(order_date))::timestamp_ntz as to_ts
    from ops.day
),

bounds as (
    select
        dateadd(day, -31, min(opened_days.opened_date))::timestamp_ntz as from_ts,
        least(dateadd(day, 32, max(opened_days.opened_date))::timestamp_ntz, max(as_of.to_ts)) as to_ts
    from opened_days
    cross join as_of
),

steps as (
    select
        step.event_id,
        step.event_ts,
        step.ticket_id,
        step.step,
        step.reason,
        step.channel,
        step.satisfaction
    from core.support_ticket as step
    cross join bounds
    where step.event_ts >= bounds.from_ts and step.event_ts < bounds.to_ts
),

openings as (
    select
        *,
        lag(event_ts) over (partition by ticket_id order by event_ts, event_id) as previous_ts
    from steps
    where step = 'opened'
),

-- A ticket that is opened again within 30 days goes on.
tickets as (
    select
        ticket_id,
        event_ts as opened_ts,
        to_date(event_ts) as opened_date,
        reason,
        channel
    from openings
    where
        (previous_ts is null or event_ts >= dateadd(day, 30, previous_ts))
        and to_date(event_ts) in (select opened_days.opened_date from opened_days)
),

histories as (
    select
        tickets.ticket_id,
        tickets.opened_ts,
        tickets.opened_date,
        tickets.reason,
        tickets.channel,
        min(iff(steps.step = 'answered', steps.event_ts, null)) as answered_ts,
        min(iff(steps.step = 'closed', steps.event_ts, null)) as closed_ts,
        count_if(steps.step = 'escalated') > 0 as is_escalated,
        count(steps.satisfaction) as ratings,
        coalesce(sum(steps.satisfaction), 0) as satisfaction_sum
    from tickets
    inner join steps
        on
            tickets.ticket_id = steps.ticket_id
            and tickets.opened_ts <= steps.event_ts
            and dateadd(day, 30, tickets.opened_ts) > steps.event_ts
    group by tickets.ticket_id, tickets.opened_ts, tickets.opened_date, tickets.reason, tickets.channel
),

waits as (
    select
        *,
        datediff(millisecond, opened_ts, answered_ts) as answer_ms,
        datediff(millisecond, opened_ts, closed_ts) as close_ms
    from histories
),

final as (
    select
        opened_date,
        reason,
        channel,
        count(*) as opened,
        count(answered_ts) as answered,
        count_if(answered_ts <= dateadd(hour, 4, opened_ts)) as answered_in_time,
        round(percentile_cont(0.5) within group (order by answer_ms) / 60000, 1) as answer_p50_min,
        round(percentile_cont(0.9) within group (order by answer_ms) / 60000, 1) as answer_p90_min,
        count_if(is_escalated) as escalated,
        count(closed_ts) as closed,
        round(percentile_cont(0.5) within group (order by close_ms) / 60000, 1) as close_p50_min,
        round(percentile_cont(0.9) within group (order by close_ms) / 60000, 1) as close_p90_min,
        count_if(closed_ts is null or closed_ts >= dateadd(day, 1, opened_date)) as open_at_day_end,
        sum(ratings) as ratings,
        sum(satisfaction_sum) as satisfaction_sum
    from waits
    group by opened_date, reason, channel
)

select * from final;
