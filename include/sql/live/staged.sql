-- Grain: one row about what this transaction has staged. fit: rows that have all that their kind must have.
select
    count(*) as found,
    count_if(
        minute_ts is not null
        and country is not null
        and channel is not null
        and version is not null
        and is_final is not null
        and (
            (kind = 'sales' and category is not null and units is not null and net_sales is not null)
            or (
                kind = 'activity'
                and orders is not null
                and refunds is not null
                and sessions is not null
                and views is not null
                and carts is not null
            )
        )
    ) as fit,
    min(minute_ts) as first_minute,
    max(minute_ts) as last_minute
from staging.live_minute
