-- Grain: one row per slice of the load that is being published, those in :slices, a JSON list, with the place that it
-- has, or gets, in the order of first commits.
delete from staging.touched_slice;

insert into staging.touched_slice (slice_id, commit_no)
with

given as (
    select value::varchar as slice_id
    from table(flatten(input => parse_json(:slices)))
),

final as (
    select
        slice.slice_id,
        coalesce(slice.commit_no, 1 + (select coalesce(max(every.commit_no), 0) from ops.slice as every)) as commit_no
    from ops.slice
    inner join given on slice.slice_id = given.slice_id
)

select * from final;
