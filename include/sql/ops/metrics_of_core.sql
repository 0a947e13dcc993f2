-- Grain: one row, what is measured from all of core.
insert into ops.metric (metric_name, measured_of, measured, measured_ts)
select
    'unbalanced_partitions' as metric_name,
    'all' as measured_of,
    count_if(not is_balanced) as measured,
    sysdate() as measured_ts
from ops.reconciliation;
