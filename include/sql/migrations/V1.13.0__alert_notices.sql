-- When an open alert was raised last: what is older does not end it.
alter table ops.alert add column if not exists last_raised_ts timestamp_ntz;

-- Grain: one row. Whoever books an alert takes it first: of two INSERTs neither waits for the other, UPDATEs do.
create table if not exists ops.alert_lock (taken number(18, 0));

insert into ops.alert_lock (taken)
select 0 as taken
where not exists (select 1 from ops.alert_lock);

-- Grain: one row per alert, time that it was raised, and notifier (file, mail, slack) that has told people of it.
create table if not exists ops.alert_notice (
    alert_id varchar(32),
    raised_ts timestamp_ntz,
    notifier varchar(16),
    kind varchar(64),
    notified_ts timestamp_ntz
);
