"""A failure of any DAG's task is told, whatever its worker's end was, and is over with the task's next success."""

from __future__ import annotations

from typing import Any

import pytest

from include.alerts import alert_id
from tests.airflow.small import SmallAirflow, until

ALERT = alert_id("task_failed", "dag:fails/end", "")


def row(airflow: SmallAirflow) -> dict[str, Any]:
    """The alert's, as alert_book has written it."""
    found = airflow.sql("select * from ops.alert where alert_id = :id", id=ALERT)
    return found[0] if found else {"state": "none"}


def resolve(airflow: SmallAirflow, name: str) -> None:
    """The task succeeds, and the watch sees it."""
    assert airflow.run("fails", f"{name}-mended", how="succeed") == "success"
    assert airflow.run("watches", name) == "success"
    until(lambda: row(airflow)["state"] == "resolved", "the alert is over")


def test_failed_task_is_told_with_its_log_and_what_to_do_and_is_over_with_its_next_success(
    airflow: SmallAirflow,
) -> None:
    assert airflow.run("fails", "raise", how="raise") == "failed"
    until(lambda: row(airflow)["state"] == "open", "the failure is told")
    found = row(airflow)
    assert (found["severity"], found["title"]) == ("warning", "fails: end has failed")
    assert "ValueError: offset 17 is gone" in found["reasons"]
    assert '"runbook": "read what the test wanted, and run it with `succeed`."' in found["details"]
    assert f"{airflow.instance.url('airflow')}/dags/fails/runs/raise/tasks/end" in found["details"]
    resolve(airflow, "after-raise")


@pytest.mark.parametrize("how", ["kill", "kill with its supervisor"])
def test_task_whose_processes_are_killed_is_told(airflow: SmallAirflow, how: str) -> None:
    name = how.replace(" ", "-")
    assert airflow.run("fails", name, how=how) == "failed"
    until(lambda: row(airflow)["state"] == "open", "the failure is told")
    resolve(airflow, f"after-{name}")


def test_failure_that_nobody_told_is_found_by_the_watch(airflow: SmallAirflow) -> None:
    airflow.live.pubsub.end()
    assert airflow.run("fails", "untold", how="raise") == "failed"
    logs = airflow.instance.airflow_home / "logs"
    until(
        lambda: all(
            any("this alert is not told now" in file.read_text() for file in logs.glob(pattern))
            for pattern in ("dag_id=fails/run_id=untold/**/*.log", "dag_processor/**/fails.py.log")
        ),
        "neither the task nor the DAG processor could tell it",
    )
    airflow.live.pubsub.start()
    assert row(airflow)["state"] != "open"
    assert airflow.run("watches", "after-untold") == "success"
    until(lambda: row(airflow)["state"] == "open", "the failure is told")
    assert "found by platform_health" in row(airflow)["reasons"]
    resolve(airflow, "untold")
