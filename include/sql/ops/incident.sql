-- Grain: one row per alert, of :ids. An alert that comes back after its end opens another incident when the one before
-- is closed.
insert into ops.incident (alert_id, severity, subject, title, state, opened_ts, opened_by)
select
    told.alert_id,
    told.severity,
    told.subject,
    told.title,
    'open' as state,
    sysdate() as opened_ts,
    :who as opened_by
from ops.alert as told
left join ops.incident as known on told.alert_id = known.alert_id and known.state = 'open'
where
    known.alert_id is null
    and told.alert_id in (select value::varchar from table(flatten(input => parse_json(:ids))))
