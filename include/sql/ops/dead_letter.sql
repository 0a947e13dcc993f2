-- Grain: one row per rejected event. Replaces those of load :load_id's slices.
delete from ops.dead_letter
where slice_id in (select touched_slice.slice_id from staging.touched_slice);

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
where load_id = :load_id;
