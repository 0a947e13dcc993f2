-- What retention removed, so that a person can see that it ran and what it did. The ledger is never purged.

-- Grain: one row per run of `retention` and kind of thing. removed: rows, files or payloads; size_bytes: null for rows.
create table if not exists ops.purge (
    what varchar(32),
    kept_days number(9, 0),
    removed number(18, 0),
    size_bytes number(18, 0),
    run_id varchar(256),
    purged_ts timestamp_ntz
);
