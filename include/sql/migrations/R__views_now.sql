-- What happens now: how far the streaming job is, and what it and the platform raised.

-- Grain: one row. newest_minute: the last one that live knows, mostly not over yet; final_until: minutes before it are
-- final; loaded_ts: when the newest batch came; behind_s: seconds from the newest event's arrival to then.
create or replace view reporting.live_status copy grants as
select
    count(*) as batches,
    min(first_minute) as first_minute,
    max(last_minute) as newest_minute,
    max(final_until) as final_until,
    max(newest_arrival_ts) as newest_arrival_ts,
    max(loaded_ts) as loaded_ts,
    datediff(second, max(newest_arrival_ts), max(loaded_ts)) as behind_s
from live.batch;

-- Grain: one row per alert. told_after_s: seconds from the event's arrival until it was in the book, of alerts that an
-- event raised; done_ts: when alert_response had done what `action` says.
create or replace view reporting.alert copy grants as
select
    alert_id,
    source,
    kind,
    severity,
    subject,
    title,
    action,
    state,
    event_ts,
    raised_ts,
    booked_ts,
    acknowledged_ts,
    resolved_ts,
    handled_ts as done_ts,
    times_raised,
    datediff(millisecond, arrival_ts, booked_ts) / 1000.0 as told_after_s
from ops.alert;
