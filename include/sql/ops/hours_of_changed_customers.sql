-- Grain: one row per hour with facts of a customer in staging.touched_customer whose loyalty tier at the time is
-- another one than before this publication: all that the marts take from core.customer.
with

moved as (
    select
        new.customer_id,
        greatest(new.valid_from_ts, coalesce(old.valid_from_ts, new.valid_from_ts)) as from_ts,
        least(new.valid_to_ts, coalesce(old.valid_to_ts, new.valid_to_ts)) as to_ts
    from core.customer as new
    inner join staging.touched_customer as old
        on
            new.customer_id = old.customer_id
            and (
                old.valid_from_ts is null
                or (new.valid_from_ts < old.valid_to_ts and new.valid_to_ts > old.valid_from_ts)
            )
    where coalesce(new.loyalty_tier, 'unknown') <> coalesce(old.loyalty_tier, 'unknown')
    union all
    select
        old.customer_id,
        old.valid_from_ts as from_ts,
        old.valid_to_ts as to_ts
    from staging.touched_customer as old
    left join core.customer as new on old.customer_id = new.customer_id
    where new.customer_id is null and old.valid_from_ts is not null
),

final as (
    select distinct fact.event_hour
    from core.order_header as fact
    inner join moved
        on
            fact.customer_id = moved.customer_id
            and fact.event_ts >= moved.from_ts
            and fact.event_ts < moved.to_ts
)

select * from final
