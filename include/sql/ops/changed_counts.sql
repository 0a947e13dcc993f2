-- Grain: one row per partition of a committed slice that delivers another number of events than it did then. :counts
-- is a JSON list of [slice, topic, partition, delivered, holes, dead letters].
with

counted as (
    select
        value[0]::varchar as slice_id,
        value[1]::varchar as topic,
        value[2]::integer as partition,
        value[3]::integer as delivered
    from table(flatten(input => parse_json(:counts)))
),

final as (
    select
        counted.slice_id,
        counted.topic,
        counted.partition,
        counted.delivered,
        known.delivered as delivered_before
    from counted
    inner join ops.slice_partition as known
        on
            counted.slice_id = known.slice_id
            and counted.topic = known.topic
            and counted.partition = known.partition
    inner join ops.slice on known.slice_id = slice.slice_id
    where slice.state = 'committed' and counted.delivered <> known.delivered
)

select * from final
