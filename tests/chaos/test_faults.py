"""What the soak may harm, among processes that look alike."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from local import processes
from tests.chaos.faults import Target

NAMES = {
    "task": "airflow worker -- 019ab0c1-5f0e-7d62-8d3a-4b6e1b0a6a11",
    "idle": "airflow worker -- LocalExecutor: <idle>",
    "executor": "airflow executor -- LocalExecutor",
}


@pytest.fixture
def named(tmp_path: Path) -> Iterator[dict[str, int]]:
    """Processes of an instance by those names; their ids."""
    env = {processes.MARK: "airflow-scheduler", "MADHATTER_HOME": str(tmp_path)}
    started = {kind: subprocess.Popen([name, "600"], executable="/bin/sleep", env=env) for kind, name in NAMES.items()}
    yield {kind: process.pid for kind, process in started.items()}
    for process in started.values():
        process.kill()
        process.wait()


def test_an_idle_worker_is_no_task(named: dict[str, int], tmp_path: Path) -> None:
    platform: Any = SimpleNamespace(instance=SimpleNamespace(home=tmp_path))
    nothing: Any = None
    target = Target(platform, nothing, nothing, [], Random(1))
    assert [process.pid for process in target.task_processes()] == [named["task"]]
