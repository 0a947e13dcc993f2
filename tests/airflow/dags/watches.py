"""Watches: the watch of platform_health alone, when a test asks for it.

Reads   what platform_health's task `watch` reads.
Writes  what that writes.

On failure  look at the task's log.
"""

from __future__ import annotations

from airflow.sdk import DAG

from madhatter.policy import DEFAULT_ARGS, page
from madhatter.watch import WatchAlerts

with DAG(
    "watches",
    **page(__doc__),
    schedule=None,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
):
    WatchAlerts(task_id="watch")
