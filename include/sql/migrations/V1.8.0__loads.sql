-- Loads: what one job transforms and one transaction publishes, a slice or many that are replayed.

-- commit_no: the place of a slice in the order of first commits, which decides between events with one id. committed_ts
-- is the first commit, published_ts the last publication. pins: JSON, the references it was enriched from.
alter table ops.slice add column if not exists commit_no number(18, 0);

alter table ops.slice add column if not exists published_ts timestamp_ntz;

alter table ops.slice add column if not exists pins varchar(4096);

update ops.slice
set
    commit_no = ordered.commit_no,
    published_ts = ordered.committed_ts
from (
    select
        slice_id,
        committed_ts,
        row_number() over (order by committed_ts, slice_id) as commit_no
    from ops.slice
    where state = 'committed'
) as ordered
where slice.slice_id = ordered.slice_id and slice.commit_no is null;

-- Grain: one row per slice of the load that is being published. Who holds ops.publish_lock fills it anew.
create table if not exists staging.touched_slice (
    slice_id varchar(64),
    commit_no number(18, 0)
);

alter table staging.dead_letter add column if not exists load_id varchar(64);

update staging.dead_letter
set load_id = slice_id
where load_id is null;

-- Grain: one row per run of retail_backfill. from_ts, to_ts: arrival times. done_ts: when its days were rolled up.
create table if not exists ops.backfill (
    run_id varchar(256),
    backfill_mode varchar(16),
    read_from varchar(16),
    from_ts timestamp_ntz,
    to_ts timestamp_ntz,
    loads number(9, 0),
    slices number(9, 0),
    offsets number(18, 0),
    planned_ts timestamp_ntz,
    done_ts timestamp_ntz
);

-- Grain: one row per measurement of platform_health. measured_of: such as a partition or a mart.
create table if not exists ops.metric (
    metric_name varchar(64),
    measured_of varchar(256),
    measured float,
    measured_ts timestamp_ntz
)
cluster by (to_date(measured_ts));
