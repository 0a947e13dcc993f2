"""Alerts of Airflow on their way through Pub/Sub, out and in."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from include import alerts as wire
from madhatter import alerts
from madhatter.response import AlertPublished
from tests.functions.running import PROJECT, Live


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
