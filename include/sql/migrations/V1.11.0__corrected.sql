-- corrected_ts: when the day was last rolled up once more; null while it was rolled up once.
alter table ops.day add column if not exists corrected_ts timestamp_ntz;
