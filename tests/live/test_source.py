"""The log as the streaming job reads it: a real broker, one partition at a time, without Beam."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.utils.timestamp import Timestamp
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic  # type: ignore[attr-defined]

from include.beam.live_log import LogLost, PartitionLog, Split
from include.beam.live_source import FOR_EVER, FindPartitions, OpenRange, OpenTracker, Topic
from tests.stand_ins import Broker, until


def produce(broker: Broker, topic: str, count: int, partition: int = 0, transaction: str = "") -> None:
    """Numbered messages. transaction: `commit` or `abort` them as one."""
    settings = {"bootstrap.servers": broker.bootstrap}
    producer = Producer(settings | ({"transactional.id": f"t-{time.time_ns()}"} if transaction else {}))
    if transaction:
        producer.init_transactions(30)
        producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, f"{number}", partition=partition)
    producer.flush(30)
    if transaction:
        (producer.commit_transaction if transaction == "commit" else producer.abort_transaction)(30)


@pytest.fixture
def topic(broker: Broker) -> str:
    return broker.create()


@pytest.fixture
def log(broker: Broker, topic: str) -> Iterator[PartitionLog]:
    own = PartitionLog(Split(broker.bootstrap, topic, 0, 0, 0))
    yield own
    own.close()


def read_until(log: PartitionLog, count: int) -> list[bytes]:
    found: list[bytes] = []

    def more() -> bool:
        found.extend(log.read(0.05).values)
        return len(found) >= count

    until(more, f"{count} messages are read")
    return found


def test_log_is_read_on_and_its_idleness_is_what_the_broker_says(broker: Broker, topic: str, log: PartitionLog) -> None:
    log.seek(0)
    produce(broker, topic, 3)
    assert read_until(log, 3) == [b"0", b"1", b"2"]
    assert log.offset == 3
    until(lambda: not log.read(0.05).values and log.idle_since_s, "the broker says that there is nothing more")
    produce(broker, topic, 1)
    assert read_until(log, 1) == [b"0"]
    assert log.idle_since_s is None


def test_broker_that_is_away_is_not_taken_for_a_quiet_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    own = Broker(tmp_path_factory.mktemp("broker"))
    own.start()
    topic = own.create()
    log = PartitionLog(Split(own.bootstrap, topic, 0, 0, 0))
    log.seek(0)
    produce(own, topic, 1)
    read_until(log, 1)
    until(lambda: not log.read(0.05).values and log.idle_since_s, "idle")
    own.end()
    until(lambda: not log.read(0.05).values and log.idle_since_s is None, "no answer, no idleness")
    log.close()


def test_aborted_messages_are_not_read_and_their_markers_do_not_hold_the_log_back(
    broker: Broker, topic: str, log: PartitionLog
) -> None:
    log.seek(0)
    produce(broker, topic, 2, transaction="abort")
    produce(broker, topic, 2, transaction="commit")
    assert read_until(log, 2) == [b"0", b"1"]
    until(lambda: not log.read(0.05).values and log.idle_since_s, "idle behind the last marker")


def test_offset_that_has_left_the_log_is_told_in_words(broker: Broker, topic: str, log: PartitionLog) -> None:
    produce(broker, topic, 5)
    for deleted in broker.admin.delete_records([TopicPartition(topic, 0, 4)]).values():
        deleted.result()
    log.seek(1)
    with pytest.raises(LogLost, match=rf"{topic}\[0\]: offset 1 has left the log"):
        read_until(log, 1)


def test_backlog_in_bytes_is_what_is_left_up_to_the_high_watermark(broker: Broker, topic: str) -> None:
    produce(broker, topic, 5)
    split, sizes = Split(broker.bootstrap, topic, 0, 1, 0), OpenRange()
    assert sizes.initial_restriction(split) == OffsetRange(1, FOR_EVER)
    assert sizes.restriction_size(split, OffsetRange(1, FOR_EVER)) == 4 * 400
    assert sizes.restriction_size(split, OffsetRange(5, FOR_EVER)) == 1


def test_every_split_is_a_checkpoint_at_the_place_reached() -> None:
    tracker: Any = OpenTracker(OffsetRange(3, FOR_EVER))
    assert tracker.try_claim(9)
    done, rest = tracker.try_split(0.5)
    assert (done, rest) == (OffsetRange(3, 10), OffsetRange(10, FOR_EVER))
    assert not tracker.try_claim(10)
    fresh: Any = OpenTracker(OffsetRange(3, FOR_EVER))
    assert fresh.try_split(0.9) == (OffsetRange(3, 3), OffsetRange(3, FOR_EVER))


def test_partitions_may_be_added(broker: Broker, topic: str) -> None:
    """What FindPartitions relies on: partitions are numbered on, and a new one begins at 0."""
    for made in broker.admin.create_partitions([NewPartitions(topic, 5)]).values():
        made.result()
    until(lambda: len(broker.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 5, "five partitions")
    produce(broker, topic, 1, partition=4)
    log = PartitionLog(Split(broker.bootstrap, topic, 4, 0, 0))
    log.seek(0)
    assert read_until(log, 1) == [b"0"]
    log.close()


def test_open_transaction_is_not_taken_for_a_quiet_log(broker: Broker, topic: str, log: PartitionLog) -> None:
    log.seek(0)
    produce(broker, topic, 1)
    read_until(log, 1)
    until(lambda: not log.read(0.05).values and log.idle_since_s, "idle")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"t-{time.time_ns()}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(30)
    until(lambda: not log.read(0.05).values and log.idle_since_s is None, "something is there that cannot be read yet")
    producer.commit_transaction(30)
    assert read_until(log, 1) == [b"open"]
    until(lambda: not log.read(0.05).values and log.idle_since_s, "idle behind the marker")


def test_topic_that_is_still_to_come_is_waited_for(broker: Broker) -> None:
    name = f"later-{time.time_ns()}"
    find = FindPartitions(broker.bootstrap, {})
    find.setup()
    found: list[Any] = []
    tracker = OpenTracker(OffsetRange(0, FOR_EVER))
    tracker.defer_remainder = lambda _: None  # type: ignore[attr-defined]
    watermark = ManualWatermarkEstimator(Timestamp.of(1))
    worker = Thread(target=lambda: found.extend(find.process(Topic(name, 0), tracker, watermark)))
    worker.start()
    time.sleep(1)
    assert worker.is_alive()
    assert not found
    for made in broker.admin.create_topics([NewTopic(name, 3, 1)]).values():
        made.result()
    worker.join(60)
    assert [one.value.partition for one in found] == [0, 1, 2]
    find.teardown()
