-- Grain: one row per minute, country and channel with an order, a return, a view or a product put into a cart.
-- Recomputes the hours in staging.touched_hour. Sessions are not in it: they change in other hours, too.
delete from marts.activity_minute
where
    minute_ts >= :first_day
    and minute_ts < :past_last_day
    and date_trunc('hour', minute_ts) in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.activity_minute (
    minute_ts,
    country,
    channel,
    orders,
    refunds,
    views,
    carts
)
with

orders as (
    select
        event_ts,
        country,
        channel,
        order_type as what
    from core.order_header
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select touched_hour.event_hour from staging.touched_hour)
        and order_type in ('sale', 'return')
),

interactions as (
    select
        event_ts,
        country,
        channel,
        interaction_type as what
    from core.interaction
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select touched_hour.event_hour from staging.touched_hour)
        and interaction_type in ('view', 'product_view', 'add_to_cart')
),

events as (
    select * from orders
    union all
    select * from interactions
),

final as (
    select
        date_trunc('minute', event_ts) as minute_ts,
        country,
        channel,
        count_if(what = 'sale') as orders,
        count_if(what = 'return') as refunds,
        count_if(what in ('view', 'product_view')) as views,
        count_if(what = 'add_to_cart') as carts
    from events
    group by date_trunc('minute', event_ts), country, channel
)

select * from final;
