"""Dead letters: rejected events are mended by a rule of the repository, and their slices published again with them.

Reads   the parameters `rule`, `letters` and `source`; `ops.dead_letter`; the raw bytes, from the archive or the log.
Writes  `ops.fix`: which letter, by which rule, whose decision, what became of it; then what `retail_backfill` writes of
        the slices of these letters. A replay applies the rule again.

On failure  the message says what is wrong with the request. Else clear what is red: each letter is decided once, and
            loads that are published stay so.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from include.fixes import names
from madhatter.days import RollUpDays
from madhatter.letters import PlanFixes
from madhatter.loads import load
from madhatter.policy import DEFAULT_ARGS, page

with DAG(
    "dead_letters",
    **page(__doc__),
    schedule=None,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "rule": Param(
            type="string",
            enum=names(),
            title="Rule",
            description="A module of include/fixes; its first line says what it mends.",
        ),
        "letters": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            title="Letters",
            description="Places such as sales.orders[0]:17, one a line; empty: all open ones that the rule is about.",
        ),
        "source": Param(
            "archive",
            type="string",
            enum=["archive", "kafka"],
            title="Source",
            description="Where the raw bytes are read.",
        ),
    },
    tags=["retail", "decision"],
):
    plan = PlanFixes(task_id="plan")
    published = load.expand(load=plan.output)
    RollUpDays(task_id="roll_up", loads=published)
