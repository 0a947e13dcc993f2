-- Grain: one row per shelf, of :shelves, a list of [alert_id, warehouse_id, product_id, quantity]. Without a quantity
-- what marts.stock_cover proposes, or what is sold until goods come. A shelf that has an open draft gets no second one:
-- the one is raised to what is missing by now.
merge into ops.reorder_draft
using (
    select
        shelf.alert_id,
        shelf.warehouse_id,
        shelf.product_id,
        coalesce(shelf.asked_for, nullif(cover.proposed_units, 0), cover.reorder_point, 0) as pieces
    from (
        select
            value[0]::varchar as alert_id,
            value[1]::varchar as warehouse_id,
            value[2]::varchar as product_id,
            value[3]::number(18, 0) as asked_for
        from table(flatten(input => parse_json(:shelves)))
    ) as shelf
    left join marts.stock_cover as cover
        on shelf.warehouse_id = cover.warehouse_id and shelf.product_id = cover.product_id
    left join ops.reorder_draft as known on shelf.alert_id = known.alert_id
    where known.alert_id is null
    qualify row_number() over (
        partition by shelf.warehouse_id, shelf.product_id order by pieces desc, shelf.alert_id asc
    ) = 1
) as asked
    on
        reorder_draft.state = 'draft'
        and reorder_draft.warehouse_id = asked.warehouse_id
        and reorder_draft.product_id = asked.product_id
when matched and asked.pieces > reorder_draft.quantity then
    update set quantity = asked.pieces
when not matched then insert (
    alert_id,
    warehouse_id,
    product_id,
    quantity,
    state,
    drafted_ts,
    drafted_by
)
values (
    asked.alert_id,
    asked.warehouse_id,
    asked.product_id,
    asked.pieces,
    'draft',
    sysdate(),
    :who
)
