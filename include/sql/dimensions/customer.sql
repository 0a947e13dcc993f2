-- Grain: one row per customer and period in which nothing about the account changed.
-- Rebuilds each customer in staging.touched_customer from all of its changes.
delete from core.customer
where customer_id in (select touched_customer.customer_id from staging.touched_customer);

insert into core.customer (
    customer_id,
    country,
    loyalty_tier,
    accepts_marketing,
    is_deleted,
    valid_from_ts,
    valid_to_ts,
    is_current,
    slice_id
)
with

-- Of changes at the same moment the last one in the log holds.
last_changes as (
    select *
    from core.customer_change
    where customer_id in (select touched_customer.customer_id from staging.touched_customer)
    qualify row_number() over (partition by customer_id, event_ts order by partition desc, offset desc) = 1
),

changes as (
    select
        *,
        change_type = 'deleted' as is_deleted,
        lag(event_ts) over (partition by customer_id order by event_ts) as previous_ts
    from last_changes
),

compared as (
    select
        *,
        hash(country, loyalty_tier, accepts_marketing, is_deleted) as state
    from changes
),

changed as (
    select *
    from compared
    qualify previous_ts is null or lag(state) over (partition by customer_id order by event_ts) <> state
),

final as (
    select
        customer_id,
        country,
        loyalty_tier,
        accepts_marketing,
        is_deleted,
        iff(previous_ts is null, '1900-01-01'::timestamp_ntz, event_ts) as valid_from_ts,
        coalesce(
            lead(event_ts) over (partition by customer_id order by event_ts), '9999-12-31'::timestamp_ntz
        ) as valid_to_ts,
        lead(event_ts) over (partition by customer_id order by event_ts) is null as is_current,
        slice_id
    from changed
)

select * from final;
