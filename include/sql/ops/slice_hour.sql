-- Grain: one row per slice and event hour whose marts its publications computed, now or before. Adds :hours, a JSON
-- list of [slice, hour].
insert into ops.slice_hour (slice_id, event_hour)
with

given as (
    select
        value[0]::varchar as slice_id,
        value[1]::timestamp_ntz as event_hour
    from table(flatten(input => parse_json(:hours)))
),

final as (
    select given.*
    from given
    left join ops.slice_hour as known on given.slice_id = known.slice_id and given.event_hour = known.event_hour
    where known.slice_id is null
)

select
    slice_id,
    event_hour
from final;
