-- Grain: one row per customer that load :load_id has a change of, or its slices had when they were published before,
-- and version that it has before this publication.
delete from staging.touched_customer;

insert into staging.touched_customer (customer_id, loyalty_tier, valid_from_ts, valid_to_ts)
with

keys as (
    select customer_id
    from staging.customer_change
    where load_id = :load_id
    union distinct
    select customer_id
    from core.customer_change
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and slice_id in (select touched_slice.slice_id from staging.touched_slice)
),

final as (
    select
        keys.customer_id,
        versions.loyalty_tier,
        versions.valid_from_ts,
        versions.valid_to_ts
    from keys
    left join core.customer as versions on keys.customer_id = versions.customer_id
)

select * from final;
