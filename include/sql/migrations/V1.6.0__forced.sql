-- Grain: one row per held slice that a person published against its audit. broken: the rules that it breaks.
create table if not exists ops.forced (
    slice_id varchar(64),
    forced_by varchar(256),
    forced_ts timestamp_ntz,
    reason varchar(1024),
    run_id varchar(256),
    broken varchar(1024)
);
