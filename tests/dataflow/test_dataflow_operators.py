"""Airflow's own operators and LaunchPipeline run through Airflow's task runner and a trigger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.dataflow.stand_in import HERE, ROOT, Server


def test_provider_operators_run_unmodified_beside_launch_pipeline(
    server: Server, airflow_env: dict[str, str], tmp_path: Path
) -> None:
    dag = HERE / "dags" / "dataflow_operators.py"
    env = {**airflow_env, "AIRFLOW__CORE__DAGS_FOLDER": str(dag.parent), "OUTPUT": str(tmp_path)}
    for command in (["-m", "airflow", "db", "migrate"], [str(dag)]):
        ran = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    states = json.loads((tmp_path / "states.json").read_text())
    assert states == dict.fromkeys(("plan", "own", "waiting", "deferred"), "success"), ran.stdout
    jobs = {job["name"]: job["currentState"] for job in server.listed()}
    assert jobs == dict.fromkeys(("slice-7", "waiting", "deferred"), "JOB_STATE_DONE")
