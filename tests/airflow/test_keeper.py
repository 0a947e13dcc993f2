"""retail_stream in a real Airflow: one job, whatever is killed, until it gives up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from local.dataflow import process
from tests.airflow.small import SmallAirflow, until

STATES = {"JOB_STATE_RUNNING", "JOB_STATE_QUEUED", "JOB_STATE_PENDING"}


def active(airflow: SmallAirflow) -> list[str]:
    return [job["id"] for job in airflow.dataflow.listed() if job["currentState"] in STATES]


def waits(airflow: SmallAirflow) -> bool:
    """Whether the task waits in the triggerer."""
    runs = [run["dag_run_id"] for run in airflow.api.runs("retail_stream", state="running")]
    return any(task["state"] == "deferred" for run in runs for task in airflow.api.tasks("retail_stream", run))


def kill_job(job_id: str) -> None:
    newest = max(process.members(job_id), key=lambda member: member.create_time())
    os.kill(newest.pid, signal.SIGKILL)


def test_one_job_runs_and_is_launched_again_when_it_dies(airflow: SmallAirflow) -> None:
    until(lambda: airflow.api.runs("retail_stream") is not None, "retail_stream is known")
    airflow.api.unpause("retail_stream")
    (first,) = until(lambda: active(airflow), "a job runs")
    until(lambda: waits(airflow), "the task waits")
    kill_job(first)
    (second,) = until(lambda: [one for one in active(airflow) if one != first], "another job runs")
    until(lambda: waits(airflow), "the task waits")
    for service in ("airflow-scheduler", "airflow-triggerer"):
        airflow.kill(service)
        airflow.launch(service)
    kill_job(second)
    (third,) = until(lambda: [one for one in active(airflow) if one not in (first, second)], "a third job runs")
    assert len(airflow.dataflow.listed()) == 3
    assert active(airflow) == [third]


def test_other_template_replaces_the_job_by_the_next_run(airflow: SmallAirflow) -> None:
    (old,) = active(airflow)
    template = Path(airflow.env["MADHATTER_TEMPLATES"].removeprefix("file://")) / "live.json"
    template.write_text(template.read_text().replace("live:1", "live:2"))
    until(lambda: active(airflow) not in ([], [old]), "the job is replaced")
    assert airflow.dataflow.job(old)["currentState"] == "JOB_STATE_CANCELLED"
    assert [run["state"] for run in airflow.api.runs("retail_stream", state="failed")] == []


def test_it_gives_up_loudly_and_starts_anew_when_it_is_unpaused(airflow: SmallAirflow) -> None:
    (old,) = active(airflow)
    fail = Path(airflow.env["MADHATTER_STORE"].removeprefix("file://")) / "fail"
    fail.touch()
    kill_job(old)
    until(lambda: airflow.api.runs("retail_stream", state="failed"), "it gives up")
    (alert,) = until(
        lambda: airflow.sql("select * from ops.alert where subject = 'dag:retail_stream/live'"), "that is told"
    )
    assert (alert["severity"], alert["action"]) == ("critical", "open_incident")
    assert "jobs live failed in a row" in alert["reasons"]
    jobs = len(airflow.dataflow.listed())
    assert airflow.api.is_paused("retail_stream")
    fail.unlink()
    assert len(airflow.dataflow.listed()) == jobs
    airflow.api.unpause("retail_stream")
    until(lambda: active(airflow), "a job runs")
    airflow.api.pause("retail_stream")
