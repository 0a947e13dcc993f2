"""Alert response: does what an alert asks for, within seconds: holds the order, drafts the reorder, opens the incident.

Reads   `ops.alert`: alerts with an action that are not handled yet. A message on the subscription `alert-response` says
        that there are some; `platform_health` handles every five minutes what is left.
Writes  `ops.held_order`, `ops.reorder_draft` or `ops.incident`, each once for an alert, and `ops.alert` handled and
        acknowledged, in one transaction.

On failure  clear the task, or leave it: what is not handled waits in `ops.alert` for the next run, or for
            `platform_health`. What people decide about the orders, drafts and incidents is theirs.
"""

from __future__ import annotations

from airflow.sdk import DAG

from madhatter.policy import DEFAULT_ARGS, page
from madhatter.response import RespondToAlerts, published

with DAG(
    "alert_response",
    **page(__doc__),
    schedule=[published],
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["live"],
):
    RespondToAlerts(task_id="respond")
