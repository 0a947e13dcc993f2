"""Platform health: every five minutes, by the clock: days that nobody rolled up; what is late, held, full, not told.

Reads   the ledger, `ops.day`, the ends of the topics' partitions, the space of the store; how the tasks of all DAGs
        ended; `ops.alert`.
Writes  asset `correction` for every day that is due: announced and lost, waiting since its last correction, or never
        told of; the day marts of days that are due nevertheless after a quarter of an hour; `ops.metric`; alerts of
        what is wrong and not told, the ends of those whose cause is over, what `alert_response` left to do.

On failure  nothing else depends on it but days and failures of which nobody told: the next run looks again.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable

from madhatter.days import AnnounceDueDays, RollUpLostDays
from madhatter.health import MeasurePlatform
from madhatter.policy import DEFAULT_ARGS, page
from madhatter.watch import WatchAlerts

with DAG(
    "platform_health",
    **page(__doc__),
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["health"],
):
    AnnounceDueDays(task_id="announce")
    RollUpLostDays(task_id="roll_up")
    MeasurePlatform(task_id="measure")
    WatchAlerts(task_id="watch")
