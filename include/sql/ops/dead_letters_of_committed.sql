-- Grain: one row per dead letter of a published slice, with the last decision about it, if there was one.
with

final as (
    select
        dead_letter.topic,
        dead_letter.partition,
        dead_letter.offset,
        dead_letter.slice_id,
        dead_letter.reason,
        fix.rule_name,
        fix.run_id,
        fix.outcome
    from ops.dead_letter
    inner join ops.slice on dead_letter.slice_id = slice.slice_id
    left join ops.fix
        on
            dead_letter.topic = fix.topic
            and dead_letter.partition = fix.partition
            and dead_letter.offset = fix.offset
    where slice.state = 'committed'
)

select *
from final
order by topic, partition, offset
