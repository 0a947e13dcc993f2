-- Grain: one row per batch that was loaded, however often it came.
merge into live.batch
using (select :batch_id as loaded_id) as loaded
    on batch.batch_id = loaded.loaded_id
when not matched then insert (
    batch_id,
    version,
    first_minute,
    last_minute,
    final_until,
    events,
    late_to_stream,
    rejected,
    written_ts,
    newest_arrival_ts,
    loaded_ts
)
values (
    :batch_id,
    :version,
    :first_minute,
    :last_minute,
    :final_until,
    :events,
    :late_to_stream,
    :rejected,
    :written_ts,
    :newest_arrival_ts,
    sysdate()
)
