"""Backfill: everything that arrived and that nobody has claimed, or published slices once more; then their days.

Reads   the parameters `mode`, `from`, `to` and `source`. catch_up: the topics in include/contracts, from the last
        claimed offsets to the newest, or to what arrived before `to`. replay: the committed slices of a window, from
        the log or from the archive.
Writes  what `retail_hourly` writes, and the day marts of all days that are touched and over.

On failure  clear the failed tasks: loads that are published stay so, and a load computed again gives the same content.
            Run it for history that was sent to the log before the platform's start, to catch up after a long outage
            (catch_up), or to compute a window anew (replay). A load waits for a live hour that is on its way.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from madhatter.backfill import PlanBackfill
from madhatter.days import RollUpDays
from madhatter.loads import load
from madhatter.policy import DEFAULT_ARGS, page

with DAG(
    "retail_backfill",
    **page(__doc__),
    schedule=None,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "mode": Param(
            "catch_up",
            type="string",
            enum=["catch_up", "replay"],
            title="Mode",
            description="catch_up: what arrived and nobody has read yet. replay: what is published already, once more.",
        ),
        "from": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="From",
            description="replay: when the first event to replay arrived (UTC). A slice is replayed as a whole.",
        ),
        "to": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="To",
            description="replay: the end of the window (UTC), not beyond what is published. catch_up: now, when empty.",
        ),
        "source": Param(
            "kafka",
            type="string",
            enum=["kafka", "archive"],
            title="Source",
            description="replay: the log, or the archive, which has what has left the log.",
        ),
    },
    tags=["retail", "backfill"],
):
    plan = PlanBackfill(task_id="plan")

    published = load.expand(load=plan.output)
    RollUpDays(task_id="roll_up", loads=published)
