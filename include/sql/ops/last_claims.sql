-- Grain: one row per topic and partition: its newest claim. The join first: a window over ten years of claims takes
-- twenty times as long.
with

ends as (
    select
        topic,
        partition,
        max(end_offset) as end_offset
    from ops.slice_partition
    group by topic, partition
),

final as (
    select part.*
    from ops.slice_partition as part
    inner join ends
        on part.topic = ends.topic and part.partition = ends.partition and part.end_offset = ends.end_offset
    qualify
        row_number() over (
            partition by part.topic, part.partition order by part.start_offset desc, part.leader_epoch desc
        ) = 1
)

select * from final
