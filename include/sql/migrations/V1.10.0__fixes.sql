-- Grain: one row per dead letter that somebody decided to mend by a rule of include/fixes. outcome: null until its
-- slice is published with it; published, duplicate, or rejected again. A replay applies it again.
create table if not exists ops.fix (
    topic varchar(128),
    partition number(9, 0),
    offset number(18, 0),
    slice_id varchar(64),
    rule_name varchar(64),
    was_rejected_for varchar(2048),
    run_id varchar(256),
    decided_by varchar(256),
    decided_ts timestamp_ntz,
    outcome varchar(16),
    resolved_ts timestamp_ntz
);
