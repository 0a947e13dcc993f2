-- Grain: one row per product that load :load_id has a change of, or its slices had when they were published before, and
-- version that it has before this publication.
delete from staging.touched_product;

insert into staging.touched_product (product_id, category, valid_from_ts, valid_to_ts)
with

keys as (
    select product_id
    from staging.product_change
    where load_id = :load_id
    union distinct
    select product_id
    from core.product_change
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and slice_id in (select touched_slice.slice_id from staging.touched_slice)
),

final as (
    select
        keys.product_id,
        versions.category,
        versions.valid_from_ts,
        versions.valid_to_ts
    from keys
    left join core.product as versions on keys.product_id = versions.product_id
)

select * from final;
