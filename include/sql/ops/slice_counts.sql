-- Grain: one row per slice and partition. Notes what those slices of a load delivered that are not committed yet; the
-- counts of the others stand until they are published again. :hours is a JSON list of [slice, hours touched],
-- :counts one of [slice, topic, partition, delivered, holes, dead letters].
-- ops.slice comes last, as in a publication: in another order the two would wait for each other.
update ops.slice_partition
set
    delivered = 0,
    holes = 0,
    dead_letters = 0,
    published = coalesce(published, 0),
    duplicates = coalesce(duplicates, 0),
    erased = coalesce(erased, 0)
where
    slice_id in (select value[0]::varchar from table(flatten(input => parse_json(:hours))))
    and slice_id not in (
        select slice.slice_id
        from ops.slice
        where slice.state = 'committed'
    );

update ops.slice_partition
set
    delivered = counted.delivered,
    holes = counted.holes,
    dead_letters = counted.dead_letters
from (
    select
        value[0]::varchar as slice_id,
        value[1]::varchar as topic,
        value[2]::integer as partition,
        value[3]::integer as delivered,
        value[4]::integer as holes,
        value[5]::integer as dead_letters
    from table(flatten(input => parse_json(:counts)))
) as counted
where
    slice_partition.slice_id = counted.slice_id
    and slice_partition.topic = counted.topic
    and slice_partition.partition = counted.partition
    and slice_partition.slice_id not in (
        select slice.slice_id
        from ops.slice
        where slice.state = 'committed'
    );

update ops.slice
set hours_touched = touched.hours
from (
    select
        value[0]::varchar as slice_id,
        value[1]::integer as hours
    from table(flatten(input => parse_json(:hours)))
) as touched
where slice.slice_id = touched.slice_id;
