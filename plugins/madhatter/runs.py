"""What Airflow itself knows of its runs, asked over the task's own connection: a worker has no other one.

As partitions.py, this is special to Airflow 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from madhatter.alerts import unmapped

WAITING = ["queued", "scheduled"]
GOOD = ("success", "skipped")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True)
class LastEnd:
    """How a task ended the last time: run, success or failed."""

    run_id: str
    state: str


def count_failed(dag_id: str) -> int:
    """Instances of the DAG's tasks that are failed, of all runs."""
    return RuntimeTaskInstance.get_ti_count(dag_id, states=["failed"])


def count_waiting(dag_id: str) -> int:
    """Runs of the DAG that wait for their turn, and tasks that wait for a worker."""
    runs = RuntimeTaskInstance.get_dr_count(dag_id, states=["queued"])
    return runs + RuntimeTaskInstance.get_ti_count(dag_id, states=WAITING)


def last_ends(dag_id: str, is_endless: bool) -> dict[str, LastEnd]:
    """Task -> its last end. is_endless: tasks that go on are as good as done."""
    states = RuntimeTaskInstance.get_task_states(dag_id)
    return newest(states, cache(lambda run_id: began(dag_id, run_id)), ("running", "deferred") if is_endless else ())


def newest(
    states: Mapping[str, Mapping[str, Any]], when: Callable[[str], datetime], good: tuple[str, ...] = ()
) -> dict[str, LastEnd]:
    """Task -> its last end, of states by run and task. when: a run's time. good: what counts as a success beside.
    Of a mapped task's instances in one run a failed one decides."""
    found: dict[str, LastEnd] = {}
    for run_id in sorted(states, key=when):
        ends: dict[str, str] = {}
        for task, state in states[run_id].items():
            own = unmapped(task)
            if state == "failed" or (state in (*GOOD, *good) and ends.get(own) != "failed"):
                ends[own] = "failed" if state == "failed" else "success"
        found.update({task: LastEnd(run_id, end) for task, end in ends.items()})
    return found


def began(dag_id: str, run_id: str) -> datetime:
    """A run's time: in its id, or asked for."""
    if found := _TIME.search(run_id):
        moment = datetime.fromisoformat(found[0])
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    from airflow.sdk.execution_time.comms import GetDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS  # type: ignore[attr-defined]

    run: Any = SUPERVISOR_COMMS.send(GetDagRun(dag_id=dag_id, run_id=run_id))
    return run.run_after  # type: ignore[no-any-return]
