-- Grain: one row per warehouse and product that ever moved in it, and one per partition of inventory.movements with the
-- end of what is committed of it. In one statement, so that the stock includes exactly these offsets: statements of
-- one transaction may see what others commit in between. reorder_point: empty until the day marts have one.
with

shelves as (
    select
        position.warehouse_id,
        position.product_id,
        position.stock,
        cover.reorder_point
    from reporting.stock_position as position
    left join marts.stock_cover as cover
        on position.warehouse_id = cover.warehouse_id and position.product_id = cover.product_id
    qualify row_number() over (order by position.warehouse_id, position.product_id) <= :most
),

ends as (
    select
        part.partition,
        max(part.end_offset) as end_offset
    from ops.slice_partition as part
    inner join ops.slice on part.slice_id = slice.slice_id
    where part.topic = 'inventory.movements' and slice.state = 'committed'
    group by part.partition
),

final as (
    select
        warehouse_id,
        product_id,
        stock,
        reorder_point,
        null as partition,
        null as end_offset
    from shelves
    union all
    select
        null as warehouse_id,
        null as product_id,
        null as stock,
        null as reorder_point,
        partition,
        end_offset
    from ends
)

select * from final
