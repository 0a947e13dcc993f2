"""LaunchPipeline runs a job once, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from madhatter.dataflow import check_job_name
from madhatter.jobs import PipelineEnded, job_link
from tests.dataflow.stand_in import PLACE, ROOT, Server, until


class Task:
    """A task process; kill -9 ends it. steps: what it has said, each (kind, text)."""

    def __init__(
        self,
        env: dict[str, str],
        name: str,
        template: str,
        patience_s: float,
        result_uri: str,
        parameters: dict[str, str],
    ) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.dataflow.operate",
            name,
            template,
            json.dumps(parameters),
            str(patience_s),
            result_uri,
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        self.steps: list[tuple[str, str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind in ("deferred", "result", "error"):
                self.steps.append((kind, text))

    def waits(self, times: int = 1) -> dict[str, Any]:
        """What it handed to its trigger, once it has deferred so many times."""
        until(lambda: len(self.steps) >= times, "the task defers")
        kind, text = self.steps[times - 1]
        assert kind == "deferred", text
        return dict(json.loads(text))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def outcome(self) -> tuple[str, str]:
        """Its last step: ("result", JSON) or ("error", text)."""
        self.process.wait(timeout=60)
        self._reader.join()
        return self.steps[-1]

    def result(self) -> dict[str, str]:
        kind, text = self.outcome()
        assert kind == "result", text
        return dict(json.loads(text))


Run = Callable[..., Task]


@pytest.fixture
def run(airflow_env: dict[str, str]) -> Iterator[Run]:
    """run(name, template="batch", patience_s=60, result_uri="", **parameters): start a task of that job."""
    tasks: list[Task] = []

    def start(
        name: str, template: str = "batch", patience_s: float = 60, result_uri: str = "", **parameters: str | Path
    ) -> Task:
        texts = {key: str(value) for key, value in parameters.items()}
        tasks.append(Task(airflow_env, name, template, patience_s, result_uri, texts))
        return tasks[-1]

    yield start
    for task in tasks:
        task.kill()


def test_a_pipeline_runs_to_its_end_and_the_result_names_the_job(server: Server, run: Run, tmp_path: Path) -> None:
    result = run("slice-1", output=tmp_path / "out", count="10").result()
    assert result == {"job_id": server.listed()[0]["id"], "job_name": "slice-1", "state": "JOB_STATE_DONE"}


def test_a_job_that_is_done_is_the_result_without_a_new_one(server: Server, run: Run, tmp_path: Path) -> None:
    job_id = server.launch("slice-1", output=tmp_path / "out")
    server.end_state(job_id)
    assert run("slice-1", output=tmp_path / "out").result()["job_id"] == job_id
    assert len(server.listed()) == 1


def test_a_retry_after_kill_attaches_to_the_running_job(run: Run, tmp_path: Path) -> None:
    first = run("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go")
    job_id = first.waits()["job_id"]
    first.kill()
    second = run("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go")
    assert second.waits()["job_id"] == job_id
    (tmp_path / "go").touch()
    assert second.result()["job_id"] == job_id
    assert (tmp_path / "out").read_text().split() == ["start", "end"]


def test_two_tasks_at_once_share_one_job(server: Server, run: Run, tmp_path: Path) -> None:
    tasks = [run("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go") for _ in range(2)]
    ids = {task.waits()["job_id"] for task in tasks}
    (tmp_path / "go").touch()
    assert {task.result()["job_id"] for task in tasks} == ids
    assert [job["id"] for job in server.listed()] == list(ids)


def test_a_failed_job_is_told_and_a_retry_submits_it_again(server: Server, run: Run, tmp_path: Path) -> None:
    kind, text = run("slice-1", output=tmp_path / "out", fail="offset 17 is gone").outcome()
    job_id = server.listed()[0]["id"]
    assert kind == "error"
    for part in ("slice-1", job_id, "JOB_STATE_FAILED", "ValueError: offset 17 is gone"):
        assert part in text
    link = re.search(r"http://\S+", text)
    assert link is not None
    with urllib.request.urlopen(link[0]) as page:
        assert "ValueError: offset 17 is gone" in page.read().decode()
    retry = run("slice-1", output=tmp_path / "out")
    assert retry.result()["job_id"] != job_id
    assert len(server.listed()) == 2


def test_a_job_that_leaves_no_result_fails_the_task_for_good(run: Run, tmp_path: Path) -> None:
    result = (tmp_path / "manifest.json").as_uri()
    kind, text = run("slice-1", output=tmp_path / "out", result_uri=result).outcome()
    assert kind == "error"
    assert text.startswith("AirflowFailException Dataflow job slice-1")
    assert f"left no {result}" in text
    assert "clear this run from `transform`" in text


def test_a_job_runs_again_when_its_result_is_gone(server: Server, run: Run, tmp_path: Path) -> None:
    result = tmp_path / "out"
    first = run("slice-1", output=result, result_uri=result.as_uri()).result()
    assert run("slice-1", output=result, result_uri=result.as_uri()).result() == first
    result.unlink()
    assert run("slice-1", output=result, result_uri=result.as_uri()).result() != first
    assert len(server.listed()) == 2


def test_result_that_is_there_without_a_job_needs_none(server: Server, run: Run, tmp_path: Path) -> None:
    result = tmp_path / "manifest.json"
    result.write_text("{}")
    found = run("slice-empty", output=tmp_path / "out", result_uri=result.as_uri()).result()
    assert (found["job_id"], found["state"]) == ("", "JOB_STATE_DONE")
    assert server.listed() == []


def test_a_result_in_a_store_out_of_reach_is_looked_for_again(
    airflow_env: dict[str, str], run: Run, tmp_path: Path
) -> None:
    airflow_env["MADHATTER_STORE"] = (tmp_path / "not-mounted").as_uri()
    kind, text = run("slice-1", output=tmp_path / "out", result_uri=f"{airflow_env['MADHATTER_STORE']}/m").outcome()
    assert kind == "error"
    assert text.startswith("OSError the store")


def test_a_link_that_cannot_be_filled_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADHATTER_JOB_LINK", "https://jobs/{name}")
    with pytest.raises(ValueError, match=r"MADHATTER_JOB_LINK='https://jobs/\{name\}' may hold \{project_id\}"):
        job_link("madhatter", "europe-west1", "1")


@pytest.mark.parametrize(("request_state", "end"), [("CANCELLED", "error"), ("DRAINED", "result")])
def test_the_wait_ends_when_somebody_ends_the_job(
    server: Server, run: Run, tmp_path: Path, request_state: str, end: str
) -> None:
    task = run("stream", "streaming", output=tmp_path / "out", wait_for=tmp_path / "never")
    job_id = task.waits()["job_id"]
    until((tmp_path / "out").exists, "the pipeline starts")
    server.jobs.jobs().update(**PLACE, jobId=job_id, body={"requestedState": f"JOB_STATE_{request_state}"}).execute()
    kind, text = task.outcome()
    assert kind == end
    assert f"JOB_STATE_{request_state}" in text


def test_a_job_that_is_being_cancelled_is_waited_for_and_submitted_again(
    server: Server, run: Run, tmp_path: Path
) -> None:
    old = server.launch("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go", stubborn="yes")
    until(lambda: (tmp_path / "out").exists() and (tmp_path / "out").read_text(), "the pipeline starts")
    server.jobs.jobs().update(**PLACE, jobId=old, body={"requestedState": "JOB_STATE_CANCELLED"}).execute()
    task = run("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go")
    assert task.waits()["job_id"] == old
    (tmp_path / "go").touch()
    assert task.waits(2)["job_id"] != old
    assert task.result()["state"] == "JOB_STATE_DONE"
    assert server.job(old)["currentState"] == "JOB_STATE_CANCELLED"


def test_a_dead_service_is_waited_for(server: Server, run: Run, tmp_path: Path) -> None:
    task = run("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go")
    job_id = task.waits()["job_id"]
    server.end(signal.SIGKILL)
    (tmp_path / "go").touch()
    server.start()
    assert task.result() == {"job_id": job_id, "job_name": "slice-1", "state": "JOB_STATE_DONE"}


def test_a_service_that_stays_away_fails_the_task_but_not_its_job(server: Server, run: Run, tmp_path: Path) -> None:
    task = run("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go", patience_s=1)
    task.waits()
    server.end(signal.SIGKILL)
    kind, text = task.outcome()
    assert kind == "error"
    assert "may still run: a retry attaches to it" in text
    server.start()
    assert server.listed()[0]["currentState"] == "JOB_STATE_RUNNING"


def test_parameters_that_dataflow_refuses_fail_the_task_for_good(run: Run) -> None:
    kind, text = run("slice-1", colour="red").outcome()
    assert kind == "error"
    assert text.startswith("AirflowFailException Dataflow refused to launch")


@pytest.mark.parametrize("name", ["Slice", "slice_1", "1-slice", "slice-", ""])
def test_a_job_name_that_dataflow_forbids_is_refused_before_the_launch(name: str) -> None:
    with pytest.raises(ValueError, match="is no Dataflow job name"):
        check_job_name(name)


def test_a_refused_job_name_comes_with_a_legal_neighbour() -> None:
    with pytest.raises(ValueError, match="for instance 'slice-2026-11-23t10'"):
        check_job_name("Slice_2026-11-23T10")


class Waiting:
    """The task of a trigger."""

    dag_id, run_id, task_id, map_index = "retail_hourly", "run", "transform", -1


@pytest.mark.parametrize(("task_state", "state"), [("deferred", "RUNNING"), ("queued", "CANCELLED")])
def test_only_a_task_that_waits_no_longer_cancels_its_job(
    server: Server,
    airflow_env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task_state: str,
    state: str,
) -> None:
    job_id = server.launch("slice-1", output=tmp_path / "out", wait_for=tmp_path / "never")
    for name in ("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "AIRFLOW_HOME"):
        monkeypatch.setenv(name, airflow_env[name])
    # A triggerer's answer needs a scheduler and its database: the one thing here that is not real.
    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: {"run": {"transform": task_state}})
    )
    from airflow.providers.google.cloud.hooks.dataflow import DataflowHook

    jobs = type("Service", (), {"projects": lambda _: type("Projects", (), {"locations": lambda _: server.jobs})()})
    monkeypatch.setattr(DataflowHook, "get_conn", lambda _: jobs())
    trigger = PipelineEnded(job_id, "madhatter", "europe-west1", "google_cloud_default", 1, 1)
    trigger._task_instance = Waiting()
    asyncio.run(trigger.on_kill())
    until(lambda: server.job(job_id)["currentState"] == f"JOB_STATE_{state}", f"the job is {state}")
