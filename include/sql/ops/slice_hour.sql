-- Grain: one row per event hour that slice :slice_id touched when it was published: those in staging.touched_hour.
delete from ops.slice_hour
where slice_id = :slice_id;

insert into ops.slice_hour (slice_id, event_hour)
select
    cast(:slice_id as varchar(64)) as slice_id,
    event_hour
from staging.touched_hour;
