-- The ledger: which offsets are claimed, and which of them are visible. Keys are not enforced; the locks are what
-- makes two planners or two publishers take turns.

-- Grain: one row, taken by UPDATE at the start of a plan.
create table if not exists ops.plan_lock (
    holder varchar(256),
    taken_ts timestamp_ntz
);

-- Grain: one row, taken by UPDATE at the start of a publication.
create table if not exists ops.publish_lock (
    holder varchar(256),
    taken_ts timestamp_ntz
);

insert into ops.plan_lock (holder, taken_ts)
select
    'nobody' as holder,
    null as taken_ts
where not exists (select 1 from ops.plan_lock);

insert into ops.publish_lock (holder, taken_ts)
select
    'nobody' as holder,
    null as taken_ts
where not exists (select 1 from ops.publish_lock);

-- Grain: one row per slice. state: planned, staged, audited or held, committed.
create table if not exists ops.slice (
    slice_id varchar(64),
    kind varchar(16),
    window_start timestamp_ntz,
    window_end timestamp_ntz,
    state varchar(16),
    plan_uri varchar(1024),
    audit_result varchar(1024),
    hours_touched number(9, 0),
    planned_ts timestamp_ntz,
    committed_ts timestamp_ntz,
    plan_s number(9, 2),
    transform_s number(9, 2),
    stage_s number(9, 2),
    audit_s number(9, 2),
    publish_s number(9, 2)
);

-- Grain: one row per slice and partition. The slice owns offsets start_offset <= offset < end_offset.
create table if not exists ops.slice_partition (
    slice_id varchar(64),
    topic varchar(128),
    partition number(9, 0),
    topic_id varchar(32),
    leader_epoch number(9, 0),
    start_offset number(18, 0),
    end_offset number(18, 0),
    delivered number(18, 0),
    holes number(18, 0),
    published number(18, 0),
    duplicates number(18, 0),
    dead_letters number(18, 0),
    erased number(18, 0)
);

-- Grain: one row per slice and event hour with rows of the slice.
create table if not exists ops.slice_hour (
    slice_id varchar(64),
    event_hour timestamp_ntz
);

-- Grain: one row per rejected event.
create table if not exists ops.dead_letter (
    slice_id varchar(64),
    topic varchar(128),
    partition number(9, 0),
    offset number(18, 0),
    arrival_ts timestamp_ntz,
    reason varchar(2048),
    payload varchar(4000000)
);

-- Grain: one row per rejected event of a slice that is not published yet.
create table if not exists staging.dead_letter (
    slice_id varchar(64),
    topic varchar(128),
    partition number(9, 0),
    offset number(18, 0),
    arrival_ts timestamp_ntz,
    reason varchar(2048),
    payload varchar(4000000)
)
cluster by (slice_id);

-- Grain: one row per event that must not be visible, by request of the person it is about.
create table if not exists ops.erased (
    event_id varchar(64),
    erased_ts timestamp_ntz
);

-- Grain: one row per day that retail_daily has rolled up.
create table if not exists ops.day (
    order_date date,
    rolled_up_ts timestamp_ntz
);

-- Grain: one row per history that was sent to a topic. shift_weeks: whole weeks added to every event time.
create table if not exists ops.history (
    topic varchar(128),
    shift_weeks number(9, 0),
    events number(18, 0),
    lines number(18, 0),
    sent_ts timestamp_ntz
);
