-- Grain: one row per rejected event. Replaces those of slice :slice_id.
delete from ops.dead_letter
where slice_id = :slice_id;

insert into ops.dead_letter (slice_id, topic, partition, offset, arrival_ts, reason, payload)
select
    slice_id,
    topic,
    partition,
    offset,
    arrival_ts,
    reason,
    payload
from staging.dead_letter
where slice_id = :slice_id;
