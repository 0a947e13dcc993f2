"""Force publish: a held slice becomes visible as it is, because a person says so and says why.

Reads   the parameters `slice_id` and `reason`; the slice's staged rows; the ledger `ops.slice`, where it must be held.
Writes  `ops.forced`: who, when, why and which rules were broken; then what `retail_hourly` would have written and
        announced from `publish` on, or `retail_backfill`.

On failure  the message says what is wrong with the request. Nothing is visible unless `publish` is green: then the
            rest may be cleared.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

from madhatter.announce import AnnounceHours
from madhatter.days import AnnounceCorrections, RollUpDays
from madhatter.force import ForcePublish
from madhatter.policy import DEFAULT_ARGS, page

with DAG(
    "force_publish",
    **page(__doc__),
    schedule=None,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "slice_id": Param(
            type="string",
            title="Held slice",
            description="The slice's id, such as hour-20261123t100000: it stands in the red `audit` task's message and "
            "on the Platform page.",
            pattern="^(hour-[0-9]{8}t[0-9]{6}|backfill-[0-9a-f]{16})$",
        ),
        "reason": Param(
            type="string",
            title="Reason",
            description="Why it may be seen although it breaks its rules. Kept with your name in `ops.forced`. At "
            "least 10 characters.",
            minLength=10,
            maxLength=1000,
            pattern=r"\S",
        ),
    },
    tags=["retail", "decision"],
):
    publish = ForcePublish(task_id="publish")
    announce = AnnounceHours(task_id="announce", load=publish.output)
    correct = AnnounceCorrections(task_id="correct", load=publish.output)
    roll_up = RollUpDays(task_id="roll_up", loads=[publish.output])

    @task.branch
    def by_kind(kind: str) -> list[str]:
        """An hour is announced; a backfill rolls up its days itself."""
        return ["roll_up"] if kind == "backfill" else ["announce", "correct"]

    publish >> by_kind(publish.output["kind"]) >> [announce, correct, roll_up]  # type: ignore[index, arg-type]
