"""The sending of the history, broken off and taken up again, on a real broker."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import islice

import pytest
from confluent_kafka import Message

from local import history
from local.instance import ROOT
from local.simulator import producer, replay
from tests.stand_ins import DEADLINE_S, Broker, until

EVENTS, LINES = 25_900, 541_909
SEND = "import sys; from local import history; history.send(sys.argv[1], sys.argv[2], 780)"


def contents(messages: list[Message]) -> list[tuple[int | None, bytes | None, bytes | None]]:
    """Partition, key and value of messages, in the log's order."""
    return [(message.partition(), message.key(), message.value()) for message in messages]


@pytest.fixture(scope="module")
def whole(broker: Broker) -> list[tuple[int | None, bytes | None, bytes | None]]:
    """What one undisturbed sending leaves."""
    topic = broker.create()
    assert history.send(broker.bootstrap, topic, 780) == history.Sent(EVENTS, LINES, 780, 0)
    return contents(broker.read(topic))


def test_killed_sending_goes_on_where_it_stopped_in_the_same_order(
    broker: Broker, whole: list[tuple[int | None, bytes | None, bytes | None]]
) -> None:
    topic = broker.create()
    process = subprocess.Popen([sys.executable, "-c", SEND, broker.bootstrap, topic], cwd=ROOT)
    until(lambda: len(broker.read(topic)) > 1_000, "the first thousand events")
    process.send_signal(signal.SIGINT)
    process.wait(DEADLINE_S)
    there = len(broker.read(topic))
    assert history.send(broker.bootstrap, topic, 780) == history.Sent(EVENTS, LINES, 780, there)
    assert contents(broker.read(topic)) == whole


def test_history_that_is_there_is_not_sent_again_in_another_week(
    broker: Broker, whole: list[tuple[int | None, bytes | None, bytes | None]]
) -> None:
    topic = broker.create()
    sender = producer.open_producer(broker.bootstrap, {})
    for key, value in islice(replay.orders(780), 10_000):
        sender.produce(topic, value, key)
    sender.flush()
    assert history.send(broker.bootstrap, topic, 781) == history.Sent(EVENTS, LINES, 780, 10_000)
    assert history.send(broker.bootstrap, topic, 781) == history.Sent(EVENTS, LINES, 780, EVENTS)
    assert contents(broker.read(topic)) == whole


def test_other_events_of_the_topic_are_not_taken_for_history(broker: Broker) -> None:
    topic = broker.create()
    sender = producer.open_producer(broker.bootstrap, {})
    sender.produce(topic, b'{"order_id":"S1","event_ts":"2026-11-23T10:53:06.007Z"}', b"S1")
    sender.produce(topic, b"{broken", b"S2")
    sender.flush()
    assert history.send(broker.bootstrap, topic, 780) == history.Sent(EVENTS, LINES, 780, 0)
    assert len(broker.read(topic)) == EVENTS + 2
