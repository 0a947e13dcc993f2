-- Grain: one row per day that is rolled up. Notes the days in :days, a JSON list.
delete from ops.day
where order_date in (select value::date from table(flatten(input => parse_json(:days))));

insert into ops.day (order_date, rolled_up_ts)
select
    value::date as order_date,
    sysdate() as rolled_up_ts
from table(flatten(input => parse_json(:days)));
