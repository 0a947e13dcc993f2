-- Grain: one row per hour of :hours and thing that live and core both count, over the minutes that are final in live;
-- share: of the differences by minute, country and channel in what core has. Core is restricted to what live counts:
-- events that arrived within 60 s. Apart from them missing_minutes: of core's minutes those that live has not, or not
-- as final ones; late_to_stream: of core's events those that arrived later than that.
delete from ops.live_check
where event_hour in (select value::timestamp_ntz from table(flatten(input => parse_json(:hours))));

insert into ops.live_check (
    event_hour,
    what,
    live_value,
    core_value,
    share,
    checked_ts
)
with

hours as (select value::timestamp_ntz as event_hour from table(flatten(input => parse_json(:hours)))),

headers as (
    select
        *,
        arrival_ts <= dateadd(second, 60, event_ts) as is_on_time
    from core.order_header
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select hours.event_hour from hours)
),

orders as (
    select * from headers
    where is_on_time and order_type in ('sale', 'return')
),

lines as (
    select
        event_id,
        event_ts,
        sum(quantity) as units,
        sum(quantity * unit_price) as net_sales
    from core.order_line
    where
        event_hour >= :first_day
        and event_hour < :past_last_day
        and event_hour in (select hours.event_hour from hours)
    group by event_id, event_ts
),

-- With those before, by which a session is told to be new.
interactions as (
    select
        hours.event_hour,
        interaction.event_id,
        interaction.event_ts,
        interaction.session_id,
        interaction.country,
        interaction.channel,
        interaction.interaction_type,
        interaction.arrival_ts <= dateadd(second, 60, interaction.event_ts) as is_on_time
    from core.interaction
    inner join hours
        on
            interaction.event_ts >= dateadd(minute, -35, hours.event_hour)
            and interaction.event_ts < dateadd(hour, 1, hours.event_hour)
    where
        interaction.event_ts >= dateadd(day, -1, :first_day::timestamp_ntz)
        and interaction.event_ts < :past_last_day
),

seen as (
    select
        *,
        lag(event_ts) over (partition by event_hour, session_id order by event_ts, event_id) as previous_ts
    from interactions
    where is_on_time
),

sides as (
    select
        false as is_live,
        date_trunc('minute', orders.event_ts) as minute_ts,
        orders.country,
        orders.channel,
        lines.units,
        lines.net_sales,
        iff(orders.order_type = 'sale', 1, 0) as orders,
        iff(orders.order_type = 'return', 1, 0) as refunds,
        0 as sessions,
        0 as views,
        0 as carts
    from orders
    inner join lines on orders.event_id = lines.event_id and orders.event_ts = lines.event_ts
    union all
    select
        false as is_live,
        date_trunc('minute', event_ts) as minute_ts,
        country,
        channel,
        0 as units,
        0 as net_sales,
        0 as orders,
        0 as refunds,
        iff(coalesce(previous_ts < dateadd(minute, -35, event_ts), true), 1, 0) as sessions,
        iff(interaction_type in ('view', 'product_view'), 1, 0) as views,
        iff(interaction_type = 'add_to_cart', 1, 0) as carts
    from seen
    where event_ts >= event_hour
    union all
    select
        true as is_live,
        minute_ts,
        country,
        channel,
        units,
        net_sales,
        0 as orders,
        0 as refunds,
        0 as sessions,
        0 as views,
        0 as carts
    from live.sales_minute
    where date_trunc('hour', minute_ts) in (select hours.event_hour from hours)
    union all
    select
        true as is_live,
        minute_ts,
        country,
        channel,
        0 as units,
        0 as net_sales,
        orders,
        refunds,
        sessions,
        views,
        carts
    from live.activity_minute
    where date_trunc('hour', minute_ts) in (select hours.event_hour from hours)
),

keyed as (
    select
        is_live,
        minute_ts,
        country,
        channel,
        sum(units) as units,
        sum(net_sales) as net_sales,
        sum(orders) as orders,
        sum(refunds) as refunds,
        sum(sessions) as sessions,
        sum(views) as views,
        sum(carts) as carts
    from sides
    group by is_live, minute_ts, country, channel
),

final_minutes as (
    select minute_ts
    from (
        select
            minute_ts,
            is_final
        from live.sales_minute
        union all
        select
            minute_ts,
            is_final
        from live.activity_minute
    ) as live_minutes
    where date_trunc('hour', minute_ts) in (select hours.event_hour from hours)
    group by minute_ts
    having count_if(not is_final) = 0
),

measures as (
    select value::varchar as what
    from table(flatten(input => parse_json(
        '["units", "net_sales", "orders", "refunds", "sessions", "views", "carts"]'
    )))
),

measured as (
    select
        date_trunc('hour', keyed.minute_ts) as event_hour,
        measures.what,
        keyed.minute_ts,
        keyed.country,
        keyed.channel,
        keyed.is_live,
        case measures.what
            when 'units' then keyed.units
            when 'net_sales' then keyed.net_sales
            when 'orders' then keyed.orders
            when 'refunds' then keyed.refunds
            when 'sessions' then keyed.sessions
            when 'views' then keyed.views
            when 'carts' then keyed.carts
        end as amount
    from keyed
    inner join final_minutes on keyed.minute_ts = final_minutes.minute_ts
    cross join measures
),

by_key as (
    select
        event_hour,
        what,
        sum(iff(is_live, amount, 0)) as live_value,
        sum(iff(is_live, 0, amount)) as core_value
    from measured
    group by event_hour, what, minute_ts, country, channel
),

compared as (
    select
        event_hour,
        what,
        sum(live_value) as live_value,
        sum(core_value) as core_value,
        sum(abs(live_value - core_value)) as wrong,
        sum(abs(core_value)) as total
    from by_key
    group by event_hour, what
),

core_minutes as (
    select distinct minute_ts
    from keyed
    where not is_live and orders + refunds + sessions + views + carts > 0
),

missing as (
    select
        date_trunc('hour', core_minutes.minute_ts) as event_hour,
        'missing_minutes' as what,
        count(final_minutes.minute_ts) as live_value,
        count(*) as core_value,
        count_if(final_minutes.minute_ts is null) as wrong,
        count(*) as total
    from core_minutes
    left join final_minutes on core_minutes.minute_ts = final_minutes.minute_ts
    group by date_trunc('hour', core_minutes.minute_ts)
),

events as (
    select
        event_hour,
        is_on_time
    from headers
    union all
    select
        event_hour,
        is_on_time
    from interactions
    where event_ts >= event_hour
),

late as (
    select
        event_hour,
        'late_to_stream' as what,
        count_if(is_on_time) as live_value,
        count(*) as core_value,
        count_if(not is_on_time) as wrong,
        count(*) as total
    from events
    group by event_hour
),

final as (
    select * from compared
    union all
    select * from missing
    union all
    select * from late
)

select
    event_hour,
    what,
    live_value,
    core_value,
    iff(total = 0, iff(wrong = 0, 0, 1), wrong::float / nullif(total, 0)) as share,
    sysdate() as checked_ts
from final;
