"""The provider's operator, waiting and deferrable, and LaunchPipeline. Run as a program it is one `dag.test()`.

Its outputs go to the folder OUTPUT; a run writes the tasks' states there, into states.json.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG, task

from madhatter.dataflow import LaunchPipeline

FOLDER = os.environ["OUTPUT"]


def body(name: str) -> dict[str, Any]:
    launch = {
        "jobName": name,
        "containerSpecGcsPath": f"{os.environ['MADHATTER_TEMPLATES']}/batch.json",
        "parameters": {"output": f"{FOLDER}/{name}"},
    }
    return {"launchParameter": launch}


with DAG("dataflow_operators", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:

    @task
    def plan() -> dict[str, str]:
        return {"slice_id": "slice-7", "output": f"{FOLDER}/launched"}

    sliced: Any = plan()
    own = LaunchPipeline(
        task_id="own", template="batch", job_name=sliced["slice_id"], parameters={"output": sliced["output"]}
    )
    waiting, deferred = (
        DataflowStartFlexTemplateOperator(
            task_id=name,
            body=body(name),
            location=os.environ["MADHATTER_LOCATION"],
            append_job_name=False,
            deferrable=name == "deferred",
            poll_sleep=1,
        )
        for name in ("waiting", "deferred")
    )
    own >> waiting >> deferred

if __name__ == "__main__":
    run = dag.test()
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    Path(FOLDER, "states.json").write_text(json.dumps(states))
