-- Grain: one row per fix. Notes what became of those that the load has applied for the first time.
update ops.fix
set
    outcome = found.outcome,
    resolved_ts = sysdate()
from (
    select
        decided.topic,
        decided.partition,
        decided.offset,
        case
            when dead_letter.slice_id is not null then 'rejected'
            when event.slice_id is not null then 'published'
            else 'duplicate'
        end as outcome
    from ops.fix as decided
    inner join staging.touched_slice on decided.slice_id = touched_slice.slice_id
    left join ops.dead_letter
        on
            decided.topic = dead_letter.topic
            and decided.partition = dead_letter.partition
            and decided.offset = dead_letter.offset
    left join ops.event
        on
            decided.topic = event.topic
            and decided.partition = event.partition
            and decided.offset = event.offset
            and event.event_ts >= :first_day
            and event.event_ts < :past_last_day
    where decided.outcome is null
) as found
where
    fix.topic = found.topic
    and fix.partition = found.partition
    and fix.offset = found.offset;

-- What was committed before has as many dead letters less.
update ops.slice_partition
set dead_letters = counted.dead_letters
from (
    select
        part.slice_id,
        part.topic,
        part.partition,
        count(dead_letter.slice_id) as dead_letters
    from ops.slice_partition as part
    inner join staging.touched_slice on part.slice_id = touched_slice.slice_id
    inner join ops.slice on part.slice_id = slice.slice_id and slice.state = 'committed'
    left join ops.dead_letter
        on
            part.slice_id = dead_letter.slice_id
            and part.topic = dead_letter.topic
            and part.partition = dead_letter.partition
    where part.delivered is not null
    group by part.slice_id, part.topic, part.partition
) as counted
where
    slice_partition.slice_id = counted.slice_id
    and slice_partition.topic = counted.topic
    and slice_partition.partition = counted.partition;
