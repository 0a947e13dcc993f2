-- Removes what a minute's earlier versions had and its final one has not: a product's category may be another one in
-- the snapshot of the job that counted it at last.
delete from live.activity_minute
where
    minute_ts >= :first_minute
    and minute_ts <= :last_minute
    and not is_final
    and minute_ts in (
        select closed.minute_ts
        from live.activity_minute as closed
        where closed.is_final and closed.minute_ts >= :first_minute and closed.minute_ts <= :last_minute
    )
