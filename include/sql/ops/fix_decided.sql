-- Grain: one row per dead letter that is mended by :rule_name. Adds :letters, a JSON list of [topic, partition, offset,
-- slice, reason], in place of an earlier rule that did not help.
delete from ops.fix
using (
    select
        value[0]::varchar as topic,
        value[1]::integer as partition,
        value[2]::integer as offset
    from table(flatten(input => parse_json(:letters)))
) as given
where fix.topic = given.topic and fix.partition = given.partition and fix.offset = given.offset;

insert into ops.fix (
    topic,
    partition,
    offset,
    slice_id,
    rule_name,
    was_rejected_for,
    run_id,
    decided_by,
    decided_ts
)
select
    value[0]::varchar as topic,
    value[1]::integer as partition,
    value[2]::integer as offset,
    value[3]::varchar as slice_id,
    cast(:rule_name as varchar(64)) as rule_name,
    value[4]::varchar as was_rejected_for,
    cast(:run_id as varchar(256)) as run_id,
    cast(:decided_by as varchar(256)) as decided_by,
    sysdate() as decided_ts
from table(flatten(input => parse_json(:letters)));
