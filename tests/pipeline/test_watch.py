"""What is wrong by the ledger and the clock, and which task's failure is not followed by a success."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include import alerts as wire
from local.instance import ROOT
from madhatter import alerts, health, runs, watch
from madhatter.runs import LastEnd, newest
from madhatter.settings import settings
from madhatter.warehouse import Warehouse
from tests.stand_ins import Snowflake

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
FILES = {file.stem: file for file in (ROOT / "dags").glob("*.py")}


@pytest.fixture
def warehouse(snowflake: Snowflake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    """Empty, of a platform whose first hour is START."""
    monkeypatch.setenv("MADHATTER_STORE", "file:///nowhere")
    monkeypatch.setenv("PLATFORM_START", START.isoformat())
    settings.cache_clear()
    own = snowflake.open()
    for table in ("slice", "slice_hour", "day", "metric", "alert", "backfill"):
        own.run(f"delete from ops.{table}")
    yield own
    own.close()
    settings.cache_clear()


def hour(warehouse: Warehouse, number: int, state: str) -> None:
    """The slice of the hour so many after the first."""
    start = (START + number * HOUR).replace(tzinfo=None)
    warehouse.run(
        "insert into ops.slice (slice_id, kind, window_start, window_end, state, audit_result) "
        "select :id, 'hour', :start, :end, :state, 'order_line: quantity'",
        id=f"hour-{number}",
        start=start,
        end=start + HOUR,
        state=state,
    )


def late(warehouse: Warehouse, minutes: int) -> list[str]:
    """What is late so long after START."""
    return [alert.subject for alert in watch.late(warehouse, FILES, START + timedelta(minutes=minutes))]


def test_hour_is_late_15_minutes_after_it_closed(warehouse: Warehouse) -> None:
    assert late(warehouse, 60 + 2 + 14) == []
    assert late(warehouse, 60 + 2 + 15) == ["window:2026-11-23T10:00:00"]
    hour(warehouse, 0, "planned")
    assert late(warehouse, 60 + 2 + 14) == []
    assert late(warehouse, 60 + 2 + 15) == ["window:2026-11-23T10:00:00"]
    warehouse.run("update ops.slice set state = 'committed'")
    assert late(warehouse, 120 + 2 + 14) == []
    assert late(warehouse, 120 + 2 + 15) == ["window:2026-11-23T11:00:00"]


def test_oldest_late_hour_is_told_and_a_held_one_waits_for_somebody(warehouse: Warehouse) -> None:
    hour(warehouse, 0, "held")
    hour(warehouse, 1, "staged")
    hour(warehouse, 2, "planned")
    assert late(warehouse, 500) == ["window:2026-11-23T11:00:00"]
    warehouse.run("update ops.slice set state = 'committed' where state <> 'held'")
    assert late(warehouse, 180) == []
    (alert,) = watch.held(warehouse)
    assert (alert.kind, alert.subject, alert.reasons) == ("slice_held", "slice:hour-0", ["order_line: quantity"])


def test_late_hour_is_an_incident_and_comes_with_what_to_do(warehouse: Warehouse) -> None:
    (alert,) = watch.late(warehouse, FILES, START + 2 * HOUR)
    assert (alert.kind, alert.severity, alert.action) == ("deadline_missed", "critical", "open_incident")
    assert alert.details["runbook"].startswith("retries re-attach to the running Dataflow job.")
    assert wire.decode(wire.encode(alert)) == alert


def test_day_is_late_when_nobody_has_rolled_it_up_45_minutes_after_it_was_due(warehouse: Warehouse) -> None:
    hour(warehouse, 0, "committed")
    end = START + 14 * HOUR
    warehouse.run("update ops.slice set window_end = :end, published_ts = :end", end=end.replace(tzinfo=None))
    warehouse.run("insert into ops.slice_hour (slice_id, event_hour) select 'hour-0', '2026-11-23 10:00'")
    assert late(warehouse, 14 * 60 + 44) == []
    assert late(warehouse, 14 * 60 + 45) == ["day:2026-11-23"]


def test_queue_is_long_when_something_waited_at_each_look_for_15_minutes(warehouse: Warehouse) -> None:
    now = datetime.now(UTC)

    def looked(minutes_ago: int, **waiting: float) -> None:
        health.add(warehouse, watch.WAITING, waiting)
        warehouse.run(
            "update ops.metric set measured_ts = :at where measured_ts > dateadd(minute, -1, sysdate()) and :ago > 0",
            at=(now - timedelta(minutes=minutes_ago)).replace(tzinfo=None),
            ago=minutes_ago,
        )

    for minutes_ago in (20, 15, 10, 5):
        looked(minutes_ago, stuck=2, busy=0 if minutes_ago == 10 else 3, new=0 if minutes_ago > 5 else 1)
    looked(0, stuck=1, busy=3, new=1)
    (alert,) = watch.long_queues(warehouse, now)
    assert (alert.kind, alert.subject, alert.severity) == ("queue_long", "dag:stuck", "warning")


def test_after_an_outage_nothing_is_late_for_a_quarter_of_an_hour(warehouse: Warehouse) -> None:
    now = datetime.now(UTC)
    assert not watch.is_awake(warehouse, now)
    health.add(warehouse, watch.WAITING, {"retail_hourly": 0})
    assert not watch.is_awake(warehouse, now)
    assert watch.is_awake(warehouse, now + timedelta(minutes=15))
    assert not watch.is_awake(warehouse, now + timedelta(hours=8))


def test_alert_that_is_over_ends_the_row_it_was(warehouse: Warehouse) -> None:
    own = alerts.task_failed("retail_daily", "roll_up", "run", "it broke", "http://log", "clear it")
    warehouse.run(
        "insert into ops.alert (alert_id, source, kind, severity, subject, title, state, details) "
        "select :id, 'airflow', :kind, :severity, :subject, :title, 'acknowledged', '{}'",
        id=own.alert_id,
        kind=own.kind,
        severity=own.severity,
        subject=own.subject,
        title=own.title,
    )
    end = watch.ended(watch.open_alerts(warehouse)[own.alert_id], START)
    assert (end.alert_id, end.state, end.action, end.raised_ts) == (own.alert_id, "resolved", "none", START)
    assert wire.decode(wire.encode(end)) == end
    warehouse.run("update ops.alert set state = 'resolved'")
    assert watch.open_alerts(warehouse) == {}


def order(run_id: str) -> datetime:
    return runs.began("dag", f"scheduled__2026-11-23T{run_id}:00:00+00:00")


def ends(states: dict[str, dict[str, Any]], *good: str) -> dict[str, tuple[str, str]]:
    return {task: (end.run_id, end.state) for task, end in newest(states, order, good).items()}


def test_last_end_of_a_task_decides() -> None:
    states: dict[str, dict[str, Any]] = {
        "12": {"plan": "success", "audit": "upstream_failed", "publish": None},
        "11": {"plan": "failed", "audit": "skipped", "publish": "running"},
        "10": {"plan": "success", "audit": "failed", "publish": "failed"},
    }
    assert ends(states) == {"plan": ("12", "success"), "audit": ("11", "success"), "publish": ("10", "failed")}
    assert ends(states, "running")["publish"] == ("11", "success")


def test_one_failed_instance_of_a_mapped_task_is_its_failure_in_that_run() -> None:
    states: dict[str, dict[str, Any]] = {
        "11": {"load.audit_0": "success", "load.audit_1": "failed", "load.audit_2": "success"},
        "12": {"load.audit_0": "success"},
    }
    assert ends({"11": states["11"]}) == {"load.audit": ("11", "failed")}
    assert ends(states) == {"load.audit": ("12", "success")}


@pytest.mark.parametrize(
    "run_id",
    ["scheduled__2026-11-23T10:00:00+00:00", "manual__2026-11-23T10:00:00.000+00:00_ab1", "x__2026-11-23T10:00:00"],
)
def test_time_of_a_run_stands_in_its_id(run_id: str) -> None:
    assert runs.began("retail_hourly", run_id) == START


def test_what_to_do_is_the_paragraph_on_failure() -> None:
    text = "Title.\n\nReads   a.\n\nOn failure  do this\n            and that.\n\nMore."
    assert alerts.on_failure(text) == "do this and that."
    assert alerts.on_failure("Title.\n**On failure** do it.") == "do it."
    assert alerts.on_failure("Title.") == ""
    assert watch.runbook(Path("/nowhere")) == watch.runbook(None) == ""


def test_long_words_fit_into_an_alert() -> None:
    alert = alerts.task_failed("d" * 200, "t" * 200, "run", "x" * 100_000, "", "")
    assert wire.decode(wire.encode(alert)) == alert
    assert LastEnd("run", "failed").state == "failed"
