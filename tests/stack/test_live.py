"""History and live orders on a real broker: what was accounted for is in the topic, once, whatever was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from local.instance import ROOT
from local.simulator import producer, replay
from tests.stand_ins import DEADLINE_S, Broker, until


class Live:
    """`python -m local.simulator.live` with an account and a log."""

    def __init__(self, folder: Path, bootstrap: str, topic: str, *options: str) -> None:
        self.account_file = folder / "account.jsonl"
        self._log = folder / f"live-{uuid.uuid4().hex[:8]}.log"
        arguments = ["--bootstrap", bootstrap, "--topic", topic, "--account", str(self.account_file), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.simulator.live", *arguments], cwd=ROOT, stdout=log, stderr=log
            )

    def log(self) -> str:
        return self._log.read_text()

    def account(self) -> list[dict[str, Any]]:
        if not self.account_file.exists():
            return []
        whole_lines = self.account_file.read_text().split("\n")[:-1]
        return [json.loads(line) for line in whole_lines]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    own = Broker(tmp_path_factory.mktemp("kafka"))
    own.start()
    yield own
    own.end()


@pytest.fixture
def start_live(kafka: Broker, tmp_path: Path) -> Iterator[Callable[..., Live]]:
    started: list[Live] = []

    def start(topic: str, *options: str) -> Live:
        started.append(Live(tmp_path, kafka.bootstrap, topic, *options))
        return started[-1]

    yield start
    for live in started:
        live.process.kill()
        live.process.wait()


def as_accounted(messages: list[Message]) -> list[dict[str, Any]]:
    """What the account must say of these messages."""
    rows = []
    for message in messages:
        event = json.loads(message.value() or b"", parse_float=Decimal)
        amount = sum((line["quantity"] * Decimal(line["unit_price"]) for line in event["lines"]), Decimal("0.000"))
        rows.append(
            {
                "order_id": event["order_id"],
                "key": (message.key() or b"").decode(),
                "partition": message.partition(),
                "offset": message.offset(),
                "lines": len(event["lines"]),
                "amount": str(amount),
            }
        )
    return rows


def by_place(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["partition"], row["offset"]))


def test_history_is_in_the_topic_whole_and_a_customer_in_one_partition(kafka: Broker) -> None:
    topic = kafka.create()
    sent = replay.send(kafka.bootstrap, topic, weeks=780)
    found = kafka.read(topic)
    assert (sent.events, sent.lines, sum(sent.by_partition.values())) == (25_900, 541_909, 25_900)
    assert sorted((m.key(), m.value()) for m in found) == sorted(replay.orders(780))
    assert {m.timestamp()[0] for m in found} == {TIMESTAMP_LOG_APPEND_TIME}
    partitions = defaultdict(set)
    for message in found:
        partitions[message.key()].add(message.partition())
    assert all(len(of_key) == 1 for of_key in partitions.values())


def test_missing_topic_is_an_error_that_says_what_to_do(kafka: Broker) -> None:
    with pytest.raises(producer.TopicUnfit, match=r"no topic no\.such\.topic: create the topics first, `make up`"):
        replay.send(kafka.bootstrap, "no.such.topic", weeks=0)


def test_topic_without_arrival_time_is_refused(kafka: Broker) -> None:
    topic = kafka.create("CreateTime")
    with pytest.raises(producer.TopicUnfit, match=r"message\.timestamp\.type=CreateTime"):
        replay.send(kafka.bootstrap, topic, weeks=0)
    assert kafka.read(topic) == []


def test_counted_live_orders_are_all_accounted_for(kafka: Broker, start_live: Callable[..., Live]) -> None:
    topic = kafka.create()
    live = start_live(topic, "--rate", "500", "--count", "400")
    assert live.process.wait(DEADLINE_S) == 0, live.log()
    found = as_accounted(kafka.read(topic))
    assert len(found) == len({row["order_id"] for row in found}) == 400
    assert by_place(live.account()) == found


def test_live_orders_outlive_a_killed_broker(kafka: Broker, start_live: Callable[..., Live]) -> None:
    topic = kafka.create()
    live = start_live(topic, "--rate", "50")
    until(lambda: len(live.account()) > 20, "the first orders")
    kafka.end()
    until(lambda: "is away" in live.log(), "the log says that the broker is away")
    before = len(live.account())
    kafka.start()
    until(lambda: len(live.account()) > before + 100, "orders after the broker's return")
    assert live.end() == 0, live.log()
    found = as_accounted(kafka.read(topic))
    assert len(found) == len({row["order_id"] for row in found})
    assert by_place(live.account()) == found
    assert live.log().count("is away") == live.log().count("is back") == 1


def test_live_orders_wait_for_a_broker_that_is_not_there_yet(kafka: Broker, start_live: Callable[..., Live]) -> None:
    topic = kafka.create()
    kafka.stop()
    live = start_live(topic, "--rate", "200", "--count", "10")
    until(lambda: "Trying on" in live.log(), "the log says that there is no broker")
    kafka.start()
    assert live.process.wait(DEADLINE_S) == 0, live.log()
    assert len(kafka.read(topic)) == 10


def test_restarted_live_orders_repeat_no_id(kafka: Broker, start_live: Callable[..., Live]) -> None:
    topic = kafka.create()
    first = start_live(topic, "--rate", "100")
    until(lambda: len(first.account()) > 50, "the first run's orders")
    first.end(signal.SIGKILL)
    # The same account file: the second run goes on in it.
    before = len(first.account())
    second = start_live(topic, "--rate", "100")
    until(lambda: len(second.account()) > before + 50, "the second run's orders")
    assert second.end() == 0, second.log()
    ids = [row["order_id"] for row in as_accounted(kafka.read(topic))]
    assert len(ids) == len(set(ids))


def test_live_orders_to_a_missing_topic_end_with_the_cure(start_live: Callable[..., Live]) -> None:
    live = start_live("no.such.topic")
    assert live.process.wait(DEADLINE_S) == 1
    assert "create the topics first" in live.log()


def test_rate_zero_sends_nothing_until_it_is_told_to_end(kafka: Broker, start_live: Callable[..., Live]) -> None:
    topic = kafka.create()
    live = start_live(topic, "--rate", "0")
    until(lambda: "paused" in live.log(), "the log says that it is paused")
    assert live.end() == 0
    assert kafka.read(topic) == []
    assert live.account() == []
