"""One job `live` of the right version: what is to be done next, and that it is done whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from include import storage
from local.dataflow import process
from local.instance import Instance
from madhatter import snapshot, stream
from madhatter.stream import Job, Step, next_step, version_of
from tests.dataflow.operate import first_event
from tests.dataflow.stand_in import HERE, ROOT, Server, until
from tests.stand_ins import Snowflake

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def job(state: str, created_s: float = 60, lasted_s: float = 1, version: str = "v1") -> Job:
    """created_s: before NOW."""
    created = NOW - created_s * SECOND
    return Job(f"{state}-{created_s}", f"JOB_STATE_{state}", version, created, created + lasted_s * SECOND)


def step(*jobs: Job, tries: int = 3, since: datetime = NOW - timedelta(days=1)) -> Step:
    return next_step(jobs, "v1", since, NOW, tries)


def test_no_job_is_launched_and_the_right_one_is_waited_for() -> None:
    assert step().kind == "launch"
    for state in ("QUEUED", "PENDING", "RUNNING"):
        assert step(job(state), job("FAILED", 70)).kind == "wait"


def test_job_of_another_version_is_replaced_and_one_that_ends_is_waited_for() -> None:
    assert step(job("RUNNING", version="v0")).kind == "replace"
    assert step(job("RUNNING", version="")).kind == "replace"
    assert step(job("CANCELLING", version="v0")).kind == "end"
    assert step(job("DRAINING")).kind == "end"


def test_job_that_was_cancelled_is_followed_at_once() -> None:
    assert step(job("CANCELLED", created_s=1)).kind == "launch"


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 5), (2, 10), (3, 20), (6, 160), (7, 300), (20, 300)])
def test_pause_doubles_from_5_seconds_to_5_minutes_with_each_failure_in_a_row(failures: int, pause_s: int) -> None:
    jobs = [job("FAILED", created_s=1 + 400 * n) for n in range(failures)]
    found = step(*jobs, tries=99)
    assert (found.kind, found.until, found.failures) == ("pause", NOW + pause_s * SECOND, failures)


def test_job_is_launched_when_the_pause_is_over() -> None:
    assert step(job("FAILED", created_s=6)).kind == "launch"
    assert step(job("DONE", created_s=6)).kind == "launch"


def test_job_that_ran_for_ten_minutes_has_not_failed_in_a_row_with_those_before() -> None:
    short = [job("FAILED", created_s=2000 + 10 * n) for n in range(9)]
    found = step(job("FAILED", created_s=601, lasted_s=600), *short)
    assert (found.kind, found.until) == ("pause", NOW - SECOND + 5 * SECOND)
    assert step(job("FAILED", created_s=900, lasted_s=600), *short).kind == "launch"


def test_it_gives_up_after_so_many_failures_in_a_row_since_the_run_began() -> None:
    jobs = [job("FAILED", created_s=1000 * n) for n in (1, 2, 3)]
    assert step(*jobs).kind == "give_up"
    assert step(*jobs, tries=4).kind == "launch"
    assert step(*jobs, since=NOW - 2500 * SECOND).kind == "launch"
    assert step(jobs[0], job("CANCELLED", created_s=1500), *jobs[1:]).kind == "launch"


def test_version_is_of_template_parameters_and_day() -> None:
    same = version_of(b"{}", {"a": "1", "b": "2"}, datetime(2026, 11, 23, 3, tzinfo=UTC))
    assert version_of(b"{}", {"b": "2", "a": "1"}, datetime(2026, 11, 24, 2, 59, tzinfo=UTC)) == same
    assert version_of(b"{ }", {"a": "1", "b": "2"}, datetime(2026, 11, 23, 3, tzinfo=UTC)) != same
    assert version_of(b"{}", {"a": "1", "b": "3"}, datetime(2026, 11, 23, 3, tzinfo=UTC)) != same
    assert version_of(b"{}", {"a": "1", "b": "2"}, datetime(2026, 11, 24, 3, tzinfo=UTC)) != same


class Task:
    """A KeepStream in a process; kill -9 ends it. steps: what it has said, each (kind, text)."""

    def __init__(self, env: dict[str, str], since: datetime) -> None:
        command = [sys.executable, "-m", "tests.dataflow.keep", since.isoformat()]
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
        self.process.wait(timeout=180)
        self._reader.join()
        return self.steps[-1]


@pytest.fixture(scope="module")
def snowflake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    own = Snowflake(tmp_path_factory.mktemp("snowflake"))
    own.start()
    yield own
    own.end()


@pytest.fixture
def env(airflow_env: dict[str, str], snowflake: Snowflake, tmp_path: Path) -> dict[str, str]:
    """Led to the stand-ins; templates and store of the test's own."""
    shutil.copy(HERE / "live.json", tmp_path)
    instance = Instance(snowflake.folder / "instance", snowflake.base)
    led = {name: value for name, value in instance.settings.items() if name.startswith("AIRFLOW_CONN_")}
    return {
        **led,
        **airflow_env,
        "MADHATTER_TEMPLATES": tmp_path.as_uri(),
        "MADHATTER_STREAM_TRIES": "2",
        "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
    }


@pytest.fixture
def keep(env: dict[str, str]) -> Iterator[Callable[..., Task]]:
    """keep(**settings): a task of a run that begins now."""
    tasks: list[Task] = []

    def start(**settings: str) -> Task:
        tasks.append(Task({**env, **settings}, datetime.now(UTC)))
        return tasks[-1]

    yield start
    for task in tasks:
        task.kill()


def running(server: Server, job_id: str) -> None:
    """Waits until the job's pipeline has read its snapshot."""
    log = server.state / "jobs" / job_id / "log"
    until(lambda: "taken at" in log.read_text(), "the pipeline runs")


def pipeline_of(job_id: str) -> int:
    """Process id of a job's pipeline, the newest of its processes."""
    return int(max(process.members(job_id), key=lambda member: member.create_time()).pid)


def states(server: Server) -> list[str]:
    """Of all jobs, the oldest first."""
    return [one["currentState"].removeprefix("JOB_STATE_") for one in reversed(server.listed())]


def test_one_job_is_launched_with_its_version_and_a_new_snapshot_and_adopted_after_kill(
    server: Server, keep: Callable[..., Task], env: dict[str, str]
) -> None:
    tasks = [keep(), keep()]
    ids = {task.waits()["job_id"] for task in tasks}
    (own,) = server.listed()
    assert ids == {own["id"]}
    assert own["name"] == "live"
    assert own["labels"] == {stream.VERSION: tasks[0].waits()["version"]}
    running(server, own["id"])
    for task in tasks:
        task.kill()
    assert keep().waits()["job_id"] == own["id"]
    assert len(server.listed()) == 1
    found = snapshot.newest(env["MADHATTER_STORE"])
    assert found is not None
    assert storage.read_json(found)["inventory_offsets"] == {snapshot.TOPIC: {}}


def test_other_template_ends_the_wait_and_the_next_run_replaces_the_job(
    server: Server, keep: Callable[..., Task], tmp_path: Path
) -> None:
    first = keep()
    old = first.waits()["job_id"]
    template = tmp_path / "live.json"
    template.write_text(template.read_text().replace("live:1", "live:2"))
    second = keep()
    assert second.waits()["job_id"] == old
    new = second.waits(2)["job_id"]
    assert new != old
    assert states(server) == ["CANCELLED", "RUNNING"]
    assert "error" not in dict(first.steps), first.steps


def test_wait_for_the_right_version_ends_when_another_one_is_due(
    server: Server, keep: Callable[..., Task], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = keep().waits()
    for name in ("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "AIRFLOW_HOME"):
        monkeypatch.setenv(name, env[name])
    watch = stream.StreamWatch(**arguments | {"version": "v0"})
    assert watch._due() == arguments["version"]

    async def client() -> Any:
        from google.cloud.dataflow_v1beta3 import JobsV1Beta3AsyncClient

        transport = JobsV1Beta3AsyncClient.get_transport_class("grpc_asyncio")
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        return JobsV1Beta3AsyncClient(transport=transport(channel=channel))

    monkeypatch.setattr(watch, "_client", client)
    event = asyncio.run(first_event(watch))
    assert event["stop"] == f"version {arguments['version']} is due instead of v0"
    assert states(server) == ["RUNNING"]


def test_job_that_dies_is_launched_again_and_after_two_in_a_row_it_gives_up_with_the_reason(
    server: Server, keep: Callable[..., Task], tmp_path: Path
) -> None:
    task = keep()
    first = task.waits()["job_id"]
    running(server, first)
    (tmp_path / "fail").touch()
    os.kill(pipeline_of(first), signal.SIGKILL)
    kind, text = task.outcome()
    assert kind == "error"
    assert text.startswith("AirflowFailException 2 jobs live failed in a row")
    assert f"{tmp_path.as_uri()}/fail is there" in text
    assert "unpauses retail_stream" in text
    assert states(server) == ["FAILED", "FAILED"]
    (tmp_path / "fail").unlink()
    again = keep()
    again.waits()
    assert states(server)[-1] == "RUNNING"


def test_service_that_was_killed_is_waited_for(server: Server, keep: Callable[..., Task]) -> None:
    task = keep()
    job_id = task.waits()["job_id"]
    running(server, job_id)
    server.end(signal.SIGKILL)
    server.start()
    assert keep().waits()["job_id"] == job_id
    assert task.process.poll() is None
    assert states(server) == ["RUNNING"]


def test_warehouse_that_is_away_leaves_the_newest_snapshot(
    server: Server, keep: Callable[..., Task], env: dict[str, str], snowflake: Snowflake
) -> None:
    away = json.loads(env["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"])
    away["extra"]["port"] = 1
    away["extra"]["login_timeout"] = 1
    with_nothing = keep(AIRFLOW_CONN_SNOWFLAKE_DEFAULT=json.dumps(away))
    assert with_nothing.outcome()[0] == "error"
    assert server.listed() == []
    warehouse = snowflake.open()
    old = snapshot.take(warehouse, env["MADHATTER_STORE"], NOW)
    warehouse.close()
    keep(AIRFLOW_CONN_SNOWFLAKE_DEFAULT=json.dumps(away)).waits()
    (own,) = server.listed()
    assert f"--snapshot={old}" in server.record(own["id"])["command"]


def test_it_launches_nothing_where_the_stream_is_off(server: Server, keep: Callable[..., Task]) -> None:
    kind, text = keep(MADHATTER_STREAM="off").outcome()
    assert (kind, text.split()[0]) == ("error", "AirflowFailException")
    assert server.listed() == []
