-- Grain: one row per hour, warehouse and product that moved. Recomputes the hours in staging.touched_hour.
delete from marts.stock_hourly
where
    event_hour >= :first_day
    and event_hour < :past_last_day
    and event_hour in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.stock_hourly (
    event_hour,
    warehouse_id,
    product_id,
    sold,
    returned,
    refilled,
    transferred,
    counted,
    change
)
with

movements as (
    select
        *,
        max(iff(movement_type = 'count', event_ts, null)) over (
            partition by event_hour, warehouse_id, product_id
        ) as last_count_ts
    from core.inventory_movement
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select touched_hour.event_hour from staging.touched_hour)
),

-- Of counts at the same moment the last one in the log holds.
counts as (
    select
        event_hour,
        warehouse_id,
        product_id,
        quantity as counted
    from movements
    where movement_type = 'count' and event_ts = last_count_ts
    qualify
        row_number() over (
            partition by event_hour, warehouse_id, product_id
            order by partition desc, offset desc
        ) = 1
),

booked as (
    select
        event_hour,
        warehouse_id,
        product_id,
        sum(iff(movement_type = 'sale', -quantity, 0)) as sold,
        sum(iff(movement_type = 'return', quantity, 0)) as returned,
        sum(iff(movement_type = 'refill', quantity, 0)) as refilled,
        sum(iff(movement_type = 'transfer', quantity, 0)) as transferred,
        sum(
            iff(movement_type <> 'count' and (last_count_ts is null or event_ts > last_count_ts), quantity, 0)
        ) as change
    from movements
    group by event_hour, warehouse_id, product_id
),

final as (
    select
        booked.event_hour,
        booked.warehouse_id,
        booked.product_id,
        booked.sold,
        booked.returned,
        booked.refilled,
        booked.transferred,
        counts.counted,
        booked.change
    from booked
    left join counts
        on
            booked.event_hour = counts.event_hour
            and booked.warehouse_id = counts.warehouse_id
            and booked.product_id = counts.product_id
)

select * from final;
