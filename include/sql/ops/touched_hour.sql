-- Grain: one row per hour that is to be computed anew: adds those in :hours, a JSON list.
insert into staging.touched_hour (event_hour)
select value::timestamp_ntz as event_hour
from table(flatten(input => parse_json(:hours)));
