"""Fails: a task that ends as its run says, under the platform's policy.

Reads   the parameter `how`.
Writes  nothing.

On failure  read what the test
            wanted, and run it with `succeed`.
"""

from __future__ import annotations

import os
import signal

from airflow.sdk import DAG, Param, task

from madhatter.policy import DEFAULT_ARGS, page

with DAG(
    "fails",
    **page(__doc__),
    schedule=None,
    is_paused_upon_creation=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS | {"retries": 0},
    params={"how": Param("succeed", type="string", title="How", description="How the task ends.")},
):

    @task
    def end(how: str) -> None:
        if how == "raise":
            raise ValueError("offset 17 is gone")
        if how in ("kill", "kill with its supervisor"):
            os.kill(os.getpid() if how == "kill" else os.getppid(), signal.SIGKILL)
            signal.pause()

    end("{{ params.how }}")
