"""History and live events on a real broker: what was accounted for is in the topic, once, whatever was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from local.instance import ROOT
from local.simulator import producer, replay, shop
from local.simulator.events import KINDS
from local.simulator.handover import Handover
from local.simulator.market import Market
from local.simulator.pace import Pace
from tests.simulator.ledger import Row, account, contents, create_topics
from tests.stand_ins import DEADLINE_S, Broker, until


class Live:
    """`python -m local.simulator.live` with an account and a log."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str, *options: str) -> None:
        self.folder, self.prefix = folder / "account", prefix
        self._log = folder / f"live-{uuid.uuid4().hex[:8]}.log"
        arguments = ["--bootstrap", bootstrap, "--prefix", prefix, "--account", str(self.folder), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.simulator.live", *arguments], cwd=ROOT, stdout=log, stderr=log
            )

    def log(self) -> str:
        return self._log.read_text()

    def account(self) -> list[Row]:
        return account(self.folder)

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

    def start(prefix: str, *options: str) -> Live:
        started.append(Live(tmp_path, kafka.bootstrap, prefix, *options))
        return started[-1]

    yield start
    for live in started:
        live.process.kill()
        live.process.wait()


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


def test_counted_live_events_are_all_accounted_for(kafka: Broker, start_live: Callable[..., Live]) -> None:
    prefix = create_topics(kafka)
    live = start_live(prefix, "--rate", "500", "--count", "1500")
    assert live.process.wait(DEADLINE_S) == 0, live.log()
    assert live.account() == contents(kafka, prefix)
    assert len(live.account()) == 1_500


def test_live_events_outlive_a_killed_broker(kafka: Broker, start_live: Callable[..., Live]) -> None:
    prefix = create_topics(kafka)
    live = start_live(prefix, "--rate", "50")
    until(lambda: len(live.account()) > 20, "the first events")
    kafka.end()
    until(lambda: "is away" in live.log(), "the log says that the broker is away")
    kafka.start()
    until(lambda: "is back" in live.log(), "the log says that the broker is back")
    before = len(live.account())
    until(lambda: len(live.account()) > before + 100, "events after the broker's return")
    # A broker that starts may refuse for another moment: each time is told, and its end too.
    until(lambda: live.log().count("is away") == live.log().count("is back"), "the last word is that it is back")
    assert live.end() == 0, live.log()
    assert live.account() == contents(kafka, prefix)
    assert live.log().count("is away") <= 3


def test_live_events_wait_for_a_broker_that_is_not_there_yet(kafka: Broker, start_live: Callable[..., Live]) -> None:
    prefix = create_topics(kafka)
    kafka.stop()
    live = start_live(prefix, "--rate", "200", "--count", "10")
    until(lambda: "Trying on" in live.log(), "the log says that there is no broker")
    kafka.start()
    assert live.process.wait(DEADLINE_S) == 0, live.log()
    assert len(contents(kafka, prefix)) == 10


def hand_over(folder: Path, mark: str, until_ms: int) -> Path:
    """As the sender before leaves it."""
    file = folder / "handover.json"
    Handover(mark, until_ms).leave(file)
    return file


def test_live_events_begin_where_those_before_have_ended(
    kafka: Broker, start_live: Callable[..., Live], tmp_path: Path
) -> None:
    prefix, market = create_topics(kafka), Market(shop.load(), Pace.of(42, 20))
    until_ms = int(time.time()) * 1000 - 50_000
    expected = market.events(until_ms, until_ms + 60_000)
    file = hand_over(tmp_path, market.pace.mark, until_ms)
    live = start_live(prefix, "--rate", "20", "--handover", str(file), "--count", str(len(expected)))
    assert live.process.wait(DEADLINE_S) == 0, live.log()
    assert live.account() == contents(kafka, prefix)
    ids = [
        event_id for kind, event_id in zip(expected.kind.tolist(), expected.ids) if not KINDS[kind].startswith("mal")
    ]
    assert sorted(row.event_id for row in live.account() if row.event_id) == sorted(ids)


def test_live_orders_at_another_rate_begin_with_a_stocktaking(
    kafka: Broker, start_live: Callable[..., Live], tmp_path: Path
) -> None:
    prefix = create_topics(kafka)
    file = hand_over(tmp_path, Pace.of(42, 5).mark, int(time.time()) * 1000 - 5_000)
    live = start_live(prefix, "--rate", "50", "--handover", str(file))
    until(lambda: sum(row.event_id.endswith("-all") for row in live.account()) > 15_000, "all shelves are counted")
    assert live.end() == 0, live.log()
    again = start_live(prefix, "--rate", "50", "--handover", str(file))
    before = len(live.account())
    until(lambda: len(again.account()) > before, "it goes on")
    assert again.end() == 0, again.log()
    assert "stocktaking" in live.log()
    assert "stocktaking" not in again.log()


def test_restarted_live_events_repeat_no_id(kafka: Broker, start_live: Callable[..., Live], tmp_path: Path) -> None:
    prefix = create_topics(kafka)
    file = hand_over(tmp_path, Pace.of(42, 100).mark, int(time.time()) * 1000 - 5_000)
    first = start_live(prefix, "--rate", "100", "--handover", str(file))
    until(lambda: len(first.account()) > 100, "the first run's events")
    first.end(signal.SIGKILL)
    # The same account: the second run goes on in it.
    before = len(first.account())
    second = start_live(prefix, "--rate", "100", "--handover", str(file))
    until(lambda: len(second.account()) > before + 200, "the second run's events")
    assert second.end() == 0, second.log()
    ids = [row.event_id for row in second.account() if row.event_id and row.kind != "duplicate"]
    assert len(ids) == len(set(ids))


def test_live_events_to_a_missing_topic_end_with_the_cure(start_live: Callable[..., Live]) -> None:
    live = start_live("no.such.")
    assert live.process.wait(DEADLINE_S) == 1
    assert "no topic no.such.web.interactions: create the topics first" in live.log()


def test_rate_zero_sends_nothing_until_it_is_told_to_end(kafka: Broker, start_live: Callable[..., Live]) -> None:
    prefix = create_topics(kafka)
    live = start_live(prefix, "--rate", "0")
    until(lambda: "paused" in live.log(), "the log says that it is paused")
    assert live.end() == 0
    assert contents(kafka, prefix) == live.account() == []
