"""The steps of a load that is computed once more, for DAGs that have many of them."""

from __future__ import annotations

from typing import Any

from airflow.sdk import task_group

from madhatter.audit import AuditLoad
from madhatter.backfill import AfterLiveHours
from madhatter.dataflow import TransformLoad
from madhatter.publish import PublishLoad
from madhatter.staging import StageLoad


@task_group
def load(load: Any) -> Any:
    """One load, from its plan to its publication, each step of one load at a time: live hours need the workers too."""
    one_at_a_time: dict[str, Any] = {"max_active_tis_per_dagrun": 1}
    wait = AfterLiveHours(task_id="after_live_hours", **one_at_a_time)
    transform = TransformLoad(task_id="transform", load=load, **one_at_a_time)
    stage = StageLoad(task_id="stage", load=load, **one_at_a_time)
    audit = AuditLoad(task_id="audit", load=stage.output, **one_at_a_time)
    publish = PublishLoad(task_id="publish", load=stage.output, **one_at_a_time)
    wait >> transform >> stage >> audit >> publish
    return publish.output
