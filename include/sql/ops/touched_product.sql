-- Grain: one row per product that slice :slice_id has a change of, or had when it was published before, and version
-- that it has before this publication.
delete from staging.touched_product;

insert into staging.touched_product (product_id, category, valid_from_ts, valid_to_ts)
with

keys as (
    select product_id
    from staging.product_change
    where slice_id = :slice_id
    union distinct
    select product_id
    from core.product_change
    where event_hour >= :first_day and event_hour < :past_last_day and slice_id = :slice_id
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
