"""Hourly: one closed hour of retail events, from Kafka offsets to the hour's marts.

Reads   topics in include/contracts, by offset; the ledger `ops.slice` says which are next.
Writes  core.*, the marts of include/sql/marts/hour, ops.dead_letter, `ops.slice` committed; asset `sales_hour`
        (partition = hour), which `retail_daily` rolls up; asset `correction` (partition = day) for late events of a
        rolled up day; `ops.live_check`, how right live was.

On failure  retries re-attach to the running Dataflow job. Nothing is visible before `publish` commits, so clearing from
            `plan` is always safe: the slice keeps its offsets and is computed again. A held slice (`audit` failed)
            does not stop later hours.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronPartitionTimetable

from madhatter.announce import AnnounceHours
from madhatter.audit import AuditLoad
from madhatter.closed import HourClosedSensor
from madhatter.dataflow import TransformLoad
from madhatter.days import AnnounceCorrections
from madhatter.live import CheckLive
from madhatter.planning import PlanSlice
from madhatter.policy import DEFAULT_ARGS, page
from madhatter.publish import PublishLoad
from madhatter.settings import settings
from madhatter.staging import StageLoad

with DAG(
    "retail_hourly",
    **page(__doc__),
    schedule=CronPartitionTimetable(settings().cadence, timezone="UTC", run_offset=-1),
    start_date=settings().start + settings().window,  # the tick that closes the first window
    catchup=True,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["retail", "hour"],
):
    closed = HourClosedSensor(task_id="hour_closed")
    plan = PlanSlice(task_id="plan")
    transform = TransformLoad(task_id="transform", load=plan.output)
    stage = StageLoad(task_id="stage", load=plan.output)
    audit = AuditLoad(task_id="audit", load=stage.output)
    publish = PublishLoad(task_id="publish", load=stage.output)
    announce = AnnounceHours(task_id="announce")
    correct = AnnounceCorrections(task_id="correct", load=publish.output)
    check_live = CheckLive(task_id="check_live")

    closed >> plan >> transform >> stage >> audit >> publish >> [announce, correct]
    announce >> check_live
