"""Daily: rolls a complete day of hours up into the day marts.

Reads   hour marts and core.* of the day; asset `sales_hour`, all 24 of a day, or `correction` for a day that got
        late events after it was rolled up. A day is corrected once an hour at most; `platform_health` sees to what
        comes in between, and to days of which nobody told.
Writes  the marts of include/sql/marts/day and as_of, `ops.day`; asset `sales_day`.

On failure  clear the task: a day is recomputed as a whole, in one transaction.
"""

from __future__ import annotations

from airflow.sdk import (
    DAG,
    DayWindow,
    PartitionedAssetTimetable,
    RollupMapper,
    StartOfDayMapper,
    WaitForAll,
)

from madhatter.days import RollUpDay
from madhatter.partitions import correction, sales_hour
from madhatter.policy import DEFAULT_ARGS, page

with DAG(
    "retail_daily",
    **page(__doc__),
    schedule=PartitionedAssetTimetable(
        assets=sales_hour | correction,
        partition_mapper_config={
            sales_hour: RollupMapper(upstream_mapper=StartOfDayMapper(), window=DayWindow(), wait_policy=WaitForAll()),
            correction: StartOfDayMapper(),
        },
    ),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["retail", "day"],
):
    RollUpDay(task_id="roll_up")
