-- Grain: one row per thing that is false about the slices in staging.touched_slice; nothing is published unless this
-- is empty.
with

partitions as (
    select *
    from ops.slice_partition
    where slice_id in (select touched_slice.slice_id from staging.touched_slice)
),

rejected as (
    select
        slice_id,
        topic,
        partition,
        count(*) as dead_letters
    from ops.dead_letter
    where slice_id in (select touched_slice.slice_id from staging.touched_slice)
    group by slice_id, topic, partition
),

visible as (
    select
        slice_id,
        topic,
        partition,
        count(*) as published
    from ops.event
    where
        event_ts >= :first_day
        and event_ts < :past_last_day
        and slice_id in (select touched_slice.slice_id from staging.touched_slice)
    group by slice_id, topic, partition
),

twice as (
    select
        min(topic) as topic,
        min(partition) as partition,
        core_table,
        event_id,
        to_date(event_ts) as event_date,
        count(*) as times
    from ops.event
    where
        event_ts >= :first_day
        and event_ts < :past_last_day
        and to_date(event_ts) in (select to_date(touched_hour.event_hour) from staging.touched_hour)
    group by core_table, event_id, to_date(event_ts)
    having count(*) > 1
),

final as (
    select
        topic,
        partition,
        'delivered ' || delivered || ' and ' || holes || ' holes are not the ' || (end_offset - start_offset)
        || ' offsets of the slice' as fault
    from partitions
    where delivered + holes <> end_offset - start_offset
    union all
    select
        topic,
        partition,
        'delivered ' || delivered || ' are not published ' || published || ' + duplicates ' || duplicates
        || ' + dead letters ' || dead_letters || ' + erased ' || erased as fault
    from partitions
    where delivered <> published + duplicates + dead_letters + erased
    union all
    select
        partitions.topic,
        partitions.partition,
        coalesce(rejected.dead_letters, 0) || ' dead letters are stored, the manifest has '
        || partitions.dead_letters as fault
    from partitions
    left join rejected
        on
            partitions.slice_id = rejected.slice_id
            and partitions.topic = rejected.topic
            and partitions.partition = rejected.partition
    where partitions.dead_letters <> coalesce(rejected.dead_letters, 0)
    union all
    select
        partitions.topic,
        partitions.partition,
        coalesce(visible.published, 0) || ' events are in core, the ledger has ' || partitions.published as fault
    from partitions
    left join visible
        on
            partitions.slice_id = visible.slice_id
            and partitions.topic = visible.topic
            and partitions.partition = visible.partition
    where partitions.published <> coalesce(visible.published, 0)
    union all
    select
        topic,
        partition,
        'event ' || event_id || ' of ' || event_date || ' is in ' || core_table || ' ' || times || ' times' as fault
    from twice
)

select
    topic,
    partition,
    fault
from final
