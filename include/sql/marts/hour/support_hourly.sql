-- Grain: one row per hour, reason and channel of support. Recomputes the hours in staging.touched_hour.
delete from marts.support_hourly
where
    event_hour >= :first_day
    and event_hour < :past_last_day
    and event_hour in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.support_hourly (
    event_hour,
    reason,
    channel,
    opened,
    answered,
    escalated,
    closed,
    ratings,
    satisfaction_sum
)
select
    event_hour,
    reason,
    channel,
    count_if(step = 'opened') as opened,
    count_if(step = 'answered') as answered,
    count_if(step = 'escalated') as escalated,
    count_if(step = 'closed') as closed,
    count(satisfaction) as ratings,
    coalesce(sum(satisfaction), 0) as satisfaction_sum
from core.support_ticket
where
    event_hour >= :first_day
    and event_hour < :past_last_day
    and event_hour in (select touched_hour.event_hour from staging.touched_hour)
group by event_hour, reason, channel;
