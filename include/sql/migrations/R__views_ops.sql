-- Grain: one row per topic and partition. Balanced: committed slices follow each other without gap or overlap, every
-- offset was delivered or is a hole, and every delivered event is in core, a duplicate, a dead letter or erased.
create or replace view ops.reconciliation copy grants as
with

claims as (
    select
        slice_partition.*,
        lag(slice_partition.end_offset) over (
            partition by slice_partition.topic, slice_partition.partition order by slice_partition.start_offset
        ) as previous_end
    from ops.slice_partition
    inner join ops.slice on slice_partition.slice_id = slice.slice_id
    where slice.state = 'committed' and slice_partition.end_offset > slice_partition.start_offset
),

ledger as (
    select
        topic,
        partition,
        min(start_offset) as first_offset,
        max(end_offset) as past_last_offset,
        sum(delivered) as delivered,
        sum(duplicates) as duplicates,
        sum(dead_letters) as dead_letters,
        sum(erased) as erased,
        sum(holes) as holes,
        count_if(previous_end is not null and previous_end <> start_offset) as breaks
    from claims
    group by topic, partition
),

-- Counted in the tables themselves, not taken from the ledger.
visible as (
    select
        topic,
        partition,
        count(*) as published
    from ops.event
    group by topic, partition
),

rejected as (
    select
        topic,
        partition,
        count(*) as dead_letters
    from ops.dead_letter
    group by topic, partition
),

final as (
    select
        ledger.topic,
        ledger.partition,
        ledger.delivered,
        coalesce(visible.published, 0) as published,
        ledger.duplicates,
        coalesce(rejected.dead_letters, 0) as dead_letters,
        ledger.erased,
        ledger.holes,
        ledger.breaks = 0
        and ledger.dead_letters = coalesce(rejected.dead_letters, 0)
        and ledger.past_last_offset - ledger.first_offset = ledger.delivered + ledger.holes
        and ledger.delivered = coalesce(visible.published, 0) + ledger.duplicates + ledger.dead_letters + ledger.erased
            as is_balanced
    from ledger
    left join visible on ledger.topic = visible.topic and ledger.partition = visible.partition
    left join rejected on ledger.topic = rejected.topic and ledger.partition = rejected.partition
)

select * from final
order by topic, partition;
