-- Grain: one row per event hour that slice :slice_id touches: those in :hours, a JSON list.
delete from ops.slice_hour
where slice_id = :slice_id;

insert into ops.slice_hour (slice_id, event_hour)
select
    cast(:slice_id as varchar(64)) as slice_id,
    value::timestamp_ntz as event_hour
from table(flatten(input => parse_json(:hours)));
