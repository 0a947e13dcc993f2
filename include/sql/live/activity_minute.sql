-- Grain: one row per minute, country and channel. The newest version wins, in whichever order they come; the minutes
-- are named so that only those are read.
merge into live.activity_minute
using (
    select
        minute_ts,
        country,
        channel,
        orders,
        refunds,
        sessions,
        views,
        carts,
        version,
        is_final
    from staging.live_minute
    where kind = 'activity'
    qualify row_number() over (partition by minute_ts, country, channel order by version desc) = 1
) as staged
    on
        activity_minute.minute_ts >= :first_minute
        and activity_minute.minute_ts <= :last_minute
        and activity_minute.minute_ts = staged.minute_ts
        and activity_minute.country = staged.country
        and activity_minute.channel = staged.channel
when matched and staged.version > activity_minute.version then
    update set
        orders = staged.orders,
        refunds = staged.refunds,
        sessions = staged.sessions,
        views = staged.views,
        carts = staged.carts,
        version = staged.version,
        is_final = staged.is_final
when not matched then insert (
    minute_ts,
    country,
    channel,
    orders,
    refunds,
    sessions,
    views,
    carts,
    version,
    is_final
)
values (
    staged.minute_ts,
    staged.country,
    staged.channel,
    staged.orders,
    staged.refunds,
    staged.sessions,
    staged.views,
    staged.carts,
    staged.version,
    staged.is_final
)
