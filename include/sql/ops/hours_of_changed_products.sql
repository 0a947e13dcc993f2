-- Grain: one row per hour with facts of a product in staging.touched_product whose category at the time is another
-- one than before this publication: all that the marts take from core.product.
with

moved as (
    select
        new.product_id,
        greatest(new.valid_from_ts, coalesce(old.valid_from_ts, new.valid_from_ts)) as from_ts,
        least(new.valid_to_ts, coalesce(old.valid_to_ts, new.valid_to_ts)) as to_ts
    from core.product as new
    inner join staging.touched_product as old
        on
            new.product_id = old.product_id
            and (
                old.valid_from_ts is null
                or (new.valid_from_ts < old.valid_to_ts and new.valid_to_ts > old.valid_from_ts)
            )
    where coalesce(new.category, 'Unknown') <> coalesce(old.category, 'Unknown')
    union all
    select
        old.product_id,
        old.valid_from_ts as from_ts,
        old.valid_to_ts as to_ts
    from staging.touched_product as old
    left join core.product as new on old.product_id = new.product_id
    where new.product_id is null and old.valid_from_ts is not null
),

final as (
    select distinct fact.event_hour
    from core.order_line as fact
    inner join moved
        on
            fact.product_id = moved.product_id
            and fact.event_ts >= moved.from_ts
            and fact.event_ts < moved.to_ts
)

select * from final
