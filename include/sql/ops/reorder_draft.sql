-- Grain: one row per alert, of :shelves, a list of [alert_id, warehouse_id, product_id, quantity]. Without a quantity
-- what marts.stock_cover proposes, or what is sold until goods come.
insert into ops.reorder_draft (alert_id, warehouse_id, product_id, quantity, state, drafted_ts, drafted_by)
with

asked as (
    select
        value[0]::varchar as alert_id,
        value[1]::varchar as warehouse_id,
        value[2]::varchar as product_id,
        value[3]::number(18, 0) as quantity
    from table(flatten(input => parse_json(:shelves)))
)

select
    asked.alert_id,
    asked.warehouse_id,
    asked.product_id,
    coalesce(asked.quantity, nullif(cover.proposed_units, 0), cover.reorder_point, 0) as quantity,
    'draft' as state,
    sysdate() as drafted_ts,
    :who as drafted_by
from asked
left join marts.stock_cover as cover
    on asked.warehouse_id = cover.warehouse_id and asked.product_id = cover.product_id
left join ops.reorder_draft as known on asked.alert_id = known.alert_id
where known.alert_id is null
