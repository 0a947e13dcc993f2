"""Alerts of Airflow on their way through Pub/Sub, out and in."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from include import alerts as wire
from local.instance import ROOT
from madhatter import alerts, runs
from madhatter.response import AlertPublished
from madhatter.warehouse import Warehouse
from madhatter.watch import WatchAlerts
from tests.functions.running import PROJECT, Live
from tests.stand_ins import Snowflake


@pytest.fixture
def own(live: Live, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A Pub/Sub to which this process publishes."""
    from include.pubsub import publisher

    monkeypatch.setenv("MADHATTER_PROJECT", PROJECT)
    monkeypatch.setattr(publisher, "TIMEOUT_S", 2.0)
    publisher._client.cache_clear()
    return live


def failure() -> wire.Alert:
    return alerts.task_failed("retail_daily", "roll_up", "run", "it broke", "http://log", "clear the task")


def test_alert_comes_with_kind_and_severity_log_and_runbook(own: Live) -> None:
    alert = failure()
    assert alerts.publish(alert)
    (message,) = own.pull("alert-response")
    assert dict(message.attributes) == {"kind": "task_failed", "severity": "critical"}
    assert wire.decode(message.data) == alert
    assert {"log": "http://log", "runbook": "clear the task"}.items() <= alert.details.items()


def test_alert_that_pubsub_does_not_take_is_in_the_log(own: Live, caplog: pytest.LogCaptureFixture) -> None:
    own.pubsub.end()
    with caplog.at_level(logging.ERROR):
        assert not alerts.publish(failure())
    assert failure().alert_id in caplog.text
    assert "platform_health looks again" in caplog.text
    own.pubsub.start()


async def first_event(events: AsyncIterator[Any]) -> Any:
    return (await anext(events)).payload


def test_watcher_is_woken_by_open_alerts_with_an_action_alone(own: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is the hook's, led to the stand-in as local/airflow/redirect leads it."""
    import grpc
    from google.pubsub_v1.services.subscriber.async_client import SubscriberAsyncClient

    async def client(_: Any) -> tuple[Any, str]:
        transport = SubscriberAsyncClient.get_transport_class("grpc_asyncio")
        channel = grpc.aio.insecure_channel(own.pubsub.address)
        path = f"projects/{PROJECT}/subscriptions/alert-response"
        return SubscriberAsyncClient(transport=transport(channel=channel)), path

    monkeypatch.setattr(AlertPublished, "_client", client)
    critical, warning = failure(), alerts.slice_held("hour-1", "a rule")
    own.publish(wire.TOPIC, b"no alert")
    own.publish(wire.TOPIC, wire.encode(warning))
    own.publish(wire.TOPIC, json.dumps(json.loads(wire.encode(critical)) | {"state": "resolved"}).encode())
    own.publish(wire.TOPIC, wire.encode(critical))

    async def woken() -> Any:
        events = AlertPublished().run()
        event = await first_event(events)
        second = asyncio.create_task(first_event(events))
        await asyncio.sleep(0)
        own.pubsub.end()
        own.pubsub.start()
        await asyncio.to_thread(own.publish, wire.TOPIC, wire.encode(critical))
        return event, await asyncio.wait_for(second, 120)

    event, second = asyncio.run(woken())
    assert event == second == {"alerts": [critical.alert_id]}


def test_watcher_says_of_itself_how_it_is_made_again() -> None:
    path, kwargs = AlertPublished().serialize()
    assert path == f"{AlertPublished.__module__}.{AlertPublished.__name__}"
    assert AlertPublished(**kwargs).serialize() == (path, kwargs)


Watch = Callable[[Callable[[], None]], dict[str, wire.Alert]]


@pytest.fixture
def watch(own: Live, warehouse: Snowflake, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Runs the watch as platform_health's task does, over a warehouse without alerts and an Airflow in which nothing
    failed or waits; `meanwhile` is called when it asks Airflow. Returns what is published, by kind."""
    monkeypatch.setattr("madhatter.warehouse.session", lambda _: closing(warehouse.open()))
    ti = SimpleNamespace(dag_id="platform_health", task_id="watch", run_id="run", try_number=1)
    dag = SimpleNamespace(dag_id="platform_health", fileloc=str(ROOT / "dags" / "platform_health.py"))
    session = warehouse.open()
    for table in ("alert", "incident", "live_check", "metric", "slice"):
        session.run(f"delete from ops.{table}")
    session.close()

    def run(meanwhile: Callable[[], None]) -> dict[str, wire.Alert]:
        def count(_: str) -> int:
            meanwhile()
            return 0

        monkeypatch.setattr(runs, "count_failed", count)
        monkeypatch.setattr(runs, "count_waiting", count)
        WatchAlerts(task_id="watch").execute({"ti": ti, "dag": dag})  # type: ignore[typeddict-item]
        found = [wire.decode(message.data) for message in own.pull("alert-response")]
        return {alert.kind: alert for alert in found}

    return run


def book(session: Warehouse, alert: wire.Alert) -> None:
    """As alert_book does."""
    session.run(
        "insert into ops.alert (alert_id, source, kind, severity, subject, title, action, state, details, booked_ts) "
        "select :id, :source, :kind, :severity, :subject, :title, :action, 'open', '{}', sysdate()",
        id=alert.alert_id,
        **{name: getattr(alert, name) for name in ("source", "kind", "severity", "subject", "title", "action")},
    )


def test_watch_after_an_outage_ends_what_is_over_and_not_what_it_does_not_look_for(
    watch: Watch, warehouse: Snowflake
) -> None:
    session, asked = warehouse.open(), list[datetime]()
    book(session, alerts.make("deadline_missed", "window:2026-11-29T10:00:00", "late", [], True))
    book(session, alerts.make("queue_long", "dag:retail_hourly", "waits", [], False))
    found = watch(lambda: asked.append(datetime.now(UTC)))
    assert {kind: alert.state for kind, alert in found.items()} == {"queue_long": "resolved"}
    assert found["queue_long"].raised_ts < asked[0], "what has failed since is newer than the end"
    session.close()


def test_watch_tells_for_a_day_of_an_hour_that_live_showed_wrong(watch: Watch, warehouse: Snowflake) -> None:
    session = warehouse.open()
    add = (
        "insert into ops.live_check (event_hour, what, live_value, core_value, share, checked_ts) "
        "select :hour, :what, 606, 600, :share, dateadd(hour, :age, sysdate())"
    )
    for hour, what, share, age in (
        ("2026-11-29 10:00", "units", 0.01, -23),
        ("2026-11-29 10:00", "orders", 0.001, -23),
        ("2026-11-29 11:00", "late_to_stream", 0.1, -23),
        ("2026-11-28 10:00", "units", 0.01, -25),
    ):
        session.run(add, hour=hour, what=what, share=share, age=age)
    (alert,) = watch(lambda: None).values()
    assert (alert.subject, alert.state) == ("hour:2026-11-29T10", "open")
    (reason,) = alert.reasons
    assert reason.startswith("2026-11-29 10h: units is 606")
    assert reason.endswith("minute by minute 1.00 % are off")
    book(session, alert)
    assert watch(lambda: None) == {}
    session.run("update ops.alert set state = 'resolved'")
    assert watch(lambda: None) == {}, "somebody has seen it"
    session.run("update ops.alert set state = 'open'")
    session.run("update ops.live_check set checked_ts = dateadd(hour, -25, sysdate())")
    assert watch(lambda: None)["live_is_off"].state == "resolved"
    session.close()


def test_watch_that_fails_has_done_what_alerts_ask_for(watch: Watch, warehouse: Snowflake) -> None:
    session = warehouse.open()
    book(session, failure())

    def fail() -> None:
        raise ConnectionError("Airflow is away")

    with pytest.raises(ConnectionError):
        watch(fail)
    assert [row["alert_id"] for row in session.rows("select alert_id from ops.incident")] == [failure().alert_id]
    session.close()
