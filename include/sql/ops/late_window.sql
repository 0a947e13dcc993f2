-- Grain: at most one row: the oldest window of retail_hourly that should be visible and is not; held ones wait for
-- somebody. :due: windows that ended by then should be; :first: start of the very first one; :length_s: of a window.
with

windows as (
    select
        window_start,
        window_end,
        state
    from ops.slice
    where kind = 'hour'
),

unfinished as (
    select min(window_start) as window_start
    from windows
    where state not in ('committed', 'held') and window_end <= :due
),

unplanned as (
    select coalesce(max(window_end), :first::timestamp_ntz) as window_start
    from windows
),

final as (
    select
        coalesce(
            unfinished.window_start,
            iff(
                dateadd(second, :length_s, unplanned.window_start) <= :due::timestamp_ntz,
                unplanned.window_start,
                null
            )
        ) as window_start
    from unfinished
    cross join unplanned
)

select * from final
where window_start is not null
