-- Grain: one row per alert and order, of :orders, a list of [alert_id, order_id].
insert into ops.held_order (alert_id, order_id, state, reason, held_ts, held_by)
with

asked as (
    select
        value[0]::varchar as alert_id,
        value[1]::varchar as order_id
    from table(flatten(input => parse_json(:orders)))
)

select
    asked.alert_id,
    asked.order_id,
    'held' as state,
    left(told.title, 2048) as reason,
    sysdate() as held_ts,
    :who as held_by
from asked
inner join ops.alert as told on asked.alert_id = told.alert_id
left join ops.held_order as known on asked.alert_id = known.alert_id and asked.order_id = known.order_id
where known.alert_id is null
