-- Grain: one row per hour and sensor. Recomputes the hours in staging.touched_hour.
delete from marts.sensor_hourly
where
    event_hour >= :first_day
    and event_hour < :past_last_day
    and event_hour in (select touched_hour.event_hour from staging.touched_hour);

insert into marts.sensor_hourly (
    event_hour,
    warehouse_id,
    device_id,
    sensor_type,
    readings,
    lowest,
    average,
    highest,
    battery_percent
)
select
    event_hour,
    warehouse_id,
    device_id,
    sensor_type,
    count(*) as readings,
    min(reading) as lowest,
    round(sum(reading) / count(*), 3) as average,
    max(reading) as highest,
    min(battery_percent) as battery_percent
from core.sensor_reading
where
    event_hour >= :first_day
    and event_hour < :past_last_day
    and event_hour in (select touched_hour.event_hour from staging.touched_hour)
group by event_hour, warehouse_id, device_id, sensor_type;
