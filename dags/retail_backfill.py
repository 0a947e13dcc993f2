"""Backfill: everything that arrived before now and that nobody has claimed, as one slice; then the days it touches.

Reads   topics in include/contracts, from the last claimed offsets to the newest.
Writes  what `retail_hourly` writes, and the day marts of all days that the slice touches and that are over.

On failure  clear the failed task, or from `plan` to compute the slice again: it keeps its offsets. Run it for history
            that was sent to the log before the platform's start, or to catch up after a long outage.
"""

from __future__ import annotations

from airflow.sdk import DAG

from madhatter.announce import RollUpDays
from madhatter.audit import AuditSlice
from madhatter.dataflow import LaunchPipeline
from madhatter.planning import PlanSlice
from madhatter.policy import DEFAULT_ARGS, page
from madhatter.publish import PublishSlice
from madhatter.staging import StageSlice

with DAG(
    "retail_backfill",
    **page(__doc__),
    schedule=None,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["retail", "backfill"],
):
    plan = PlanSlice(task_id="plan", kind="backfill")
    transform = LaunchPipeline(
        task_id="transform",
        template="hourly",
        job_name=plan.output["slice_id"],  # type: ignore[index]
        parameters=plan.output["parameters"],  # type: ignore[index]
        result_uri=plan.output["manifest_uri"],  # type: ignore[index]
    )
    stage = StageSlice(task_id="stage", slice=plan.output)
    audit = AuditSlice(task_id="audit", slice=stage.output)
    publish = PublishSlice(task_id="publish", slice=stage.output)
    roll_up = RollUpDays(task_id="roll_up", slice=publish.output)

    plan >> transform >> stage >> audit >> publish >> roll_up
