-- Grain: one row per minute, country, category and channel. The newest version wins, in whichever order they come; the
-- minutes are named so that only those are read.
merge into live.sales_minute
using (
    select
        minute_ts,
        country,
        category,
        channel,
        units,
        net_sales,
        version,
        is_final
    from staging.live_minute
    where kind = 'sales'
    qualify row_number() over (partition by minute_ts, country, category, channel order by version desc) = 1
) as staged
    on
        sales_minute.minute_ts >= :first_minute
        and sales_minute.minute_ts <= :last_minute
        and sales_minute.minute_ts = staged.minute_ts
        and sales_minute.country = staged.country
        and sales_minute.category = staged.category
        and sales_minute.channel = staged.channel
when matched and staged.version > sales_minute.version then
    update set
        units = staged.units,
        net_sales = staged.net_sales,
        version = staged.version,
        is_final = staged.is_final
when not matched then insert (
    minute_ts,
    country,
    category,
    channel,
    units,
    net_sales,
    version,
    is_final
)
values (
    staged.minute_ts,
    staged.country,
    staged.category,
    staged.channel,
    staged.units,
    staged.net_sales,
    staged.version,
    staged.is_final
)
