"""What bounds the log, on a broker that looks for expired segments twice a second instead of every five minutes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from local.kafka import broker as process
from madhatter import bounds, kafka
from madhatter.settings import settings
from tests.stand_ins import Broker, until

ORDERS, READINGS = "sales.orders", "iot.readings"
DAY_MS = 86_400_000
MB = 1 << 20


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    own, usual = Broker(tmp_path_factory.mktemp("broker")), process.server_properties
    with pytest.MonkeyPatch.context() as patch:
        often = "log.retention.check.interval.ms=500\nlog.initial.task.delay.ms=500\n"
        patch.setattr(process, "server_properties", lambda *given: usual(*given) + often)
        own.start()
    kafka.create_topics(own.admin, [ORDERS, READINGS])
    own.wait_for_leaders(ORDERS, READINGS)
    yield own
    own.end()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("MADHATTER_STORE", "file:///store")
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


def values(broker: Broker, topic: str) -> dict[str, str]:
    """A topic's settings, as the broker has them."""
    (future,) = broker.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in future.result().items()}


def align(broker: Broker, *topics: str) -> None:
    """Until the broker has heard of it, some moments after its controller took it."""
    until(lambda: bounds.align(broker.admin, topics) == {}, "the topics have their bounds")


def first(broker: Broker, topic: str) -> int:
    """The oldest offset of partition 0."""
    return kafka.read_log(broker.admin, [topic], datetime.now(UTC))[topic, 0].first


def send(broker: Broker, topic: str, count: int) -> None:
    """Messages of 100 kB that cannot be compressed, to partition 0."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for _ in range(count):
        producer.produce(topic, os.urandom(100_000), partition=0)
    assert producer.flush(30) == 0


def bytes_on_disk(broker: Broker, topic: str) -> int:
    """Of partition 0. A removed segment's file is renamed, maybe while we look, and goes after a minute."""
    folder: Path = broker.folder / "data" / f"{topic}-0"
    size = 0
    for file in folder.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


def test_topic_keeps_what_its_contract_says_but_no_longer_than_the_environment(impatient: Broker) -> None:
    align(impatient, ORDERS, READINGS)
    orders, readings = values(impatient, ORDERS), values(impatient, READINGS)
    assert (orders["retention.ms"], readings["retention.ms"]) == (str(30 * DAY_MS), str(7 * DAY_MS))
    assert orders["retention.bytes"] == readings["retention.bytes"] == "-1"
    # A segment that is written to does not go: without days of their own they would be kept for a week longer.
    assert orders["segment.ms"] == readings["segment.ms"] == str(DAY_MS)
    assert orders["message.timestamp.type"] == "LogAppendTime"


def test_changed_setting_reaches_topics_that_are_there_and_nothing_else_is_touched(
    impatient: Broker, environment: pytest.MonkeyPatch
) -> None:
    align(impatient, ORDERS)
    environment.setenv("MADHATTER_KEEP_LOG_DAYS", "3")
    settings.cache_clear()
    assert bounds.align(impatient.admin, [ORDERS]) == {ORDERS: {"retention.ms": str(3 * DAY_MS)}}


class OneStepBehind:
    """The admin client of a broker that hears of a new topic after it was first asked."""

    def __init__(self, client: AdminClient, topic: str) -> None:
        self.client, self.topic = client, topic

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def describe_configs(self, *arguments: Any, **settings: Any) -> Any:
        found = self.client.describe_configs(*arguments, **settings)
        wait(found.values())
        self.client.create_topics([NewTopic(self.topic, 1, 1)])
        return found


def test_topic_that_a_broker_has_not_heard_of_yet_is_waited_for(impatient: Broker) -> None:
    wanted = {"new": {"retention.ms": "1000"}}
    assert bounds.set_bounds(OneStepBehind(impatient.admin, "new"), wanted) == wanted  # type: ignore[arg-type]
    until(lambda: values(impatient, "new")["retention.ms"] == "1000", "it has its bounds")


def test_log_that_is_bounded_by_size_loses_its_oldest_segments_only(
    impatient: Broker, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MADHATTER_KEEP_LOG_DAYS", "0")
    environment.setenv("MADHATTER_KEEP_LOG_MB", "2")
    settings.cache_clear()
    align(impatient, ORDERS)
    assert values(impatient, ORDERS)["retention.ms"] == "-1"
    send(impatient, ORDERS, 60)
    until(lambda: first(impatient, ORDERS) > 0, "the oldest have gone")
    until(lambda: bytes_on_disk(impatient, ORDERS) <= 3 * MB, "6 MB have become 2 and a segment")
    assert (60 - first(impatient, ORDERS)) * 100_000 > 2 * MB - 100_000


def test_log_that_is_bounded_by_time_loses_what_is_older(impatient: Broker) -> None:
    """Also its last segment, which is still written to, once nothing in it is young enough."""
    send(impatient, READINGS, 3)
    bounds.set_bounds(impatient.admin, {READINGS: {"retention.ms": "1000"}})
    until(lambda: first(impatient, READINGS) == 3, "all three have expired")
    until(lambda: bytes_on_disk(impatient, READINGS) == 0, "their file is gone")
