-- Grain: one row per day that is rolled up. Notes the days in :days, a JSON list; one that is there is corrected.
update ops.day
set
    rolled_up_ts = sysdate(),
    corrected_ts = sysdate()
where order_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into ops.day (order_date, rolled_up_ts)
select
    value::date as order_date,
    sysdate() as rolled_up_ts
from table(flatten(input => parse_json(:days)))
where value::date not in (select done.order_date from ops.day as done);
