"""Plans over a real broker's log, through to the publication: whatever the log does, it is accounted for or refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from madhatter import kafka, slices
from madhatter.slices import LogExpired, LogTruncated
from tests.pipeline.chain import TOPIC, empty_chain, order
from tests.pipeline.live_chain import LiveChain, cut_log
from tests.pipeline.test_topic_recreated import runbook_sql
from tests.stand_ins import Broker, Snowflake

FIRST, SECOND, THIRD = "hour-20110104t100000", "hour-20110104t110000", "hour-20110104t120000"


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that may be stopped, killed and harmed."""
    own = Broker(tmp_path_factory.mktemp("broker"))
    own.start()
    yield own
    own.end()


@pytest.fixture
def live(own_broker: Broker, snowflake: Snowflake, tmp_path: Path) -> Iterator[LiveChain]:
    """A chain over a new topic and empty tables."""
    empty = empty_chain(snowflake.open(), tmp_path)
    yield LiveChain(empty.warehouse, tmp_path, own_broker)
    empty.warehouse.close()


def orders(name: str, count: int) -> list[bytes]:
    return [order(f"{name}{number}") for number in range(count)]


def lose_and_regrow(live: LiveChain) -> None:
    """Partition 0 loses what was claimed from offset 6 on, and grows past it under a newer leader epoch."""
    live.send(0, *orders("A", 10))
    live.run(FIRST)
    live.broker.stop()
    cut_log(live.broker.folder / "data", 0, 6)
    live.broker.start()
    live.broker.wait_for_leaders(TOPIC)
    live.send(0, *orders("B", 10))


def test_log_that_lost_claimed_offsets_and_grew_past_them_is_named(live: LiveChain) -> None:
    lose_and_regrow(live)
    before = live.content()
    with pytest.raises(LogTruncated, match=r"sales\.orders\[0\] was cut at offset 6 .* offsets 6 to 9, .* epoch \d+"):
        live.plan(SECOND)
    assert live.content() == before


def test_runbook_reads_a_regrown_log_again_without_loss_or_double(live: LiveChain) -> None:
    lose_and_regrow(live)
    for statement in runbook_sql("Topic recreated"):
        live.warehouse.run(statement)
    live.run(SECOND)
    assert live.orders() == sorted([f"A{n}" for n in range(10)] + [f"B{n}" for n in range(10)])
    assert live.counts(SECOND)[0] == (16, 0, 10, 6, 0, 0)
    assert live.is_balanced()


def test_whole_log_goes_on_under_the_next_leaders(live: LiveChain) -> None:
    live.send(0, *orders("A", 3))
    live.transaction(1, *orders("B", 2), commit=True)
    live.run(FIRST)
    producer = Producer({**live.settings, "transactional.id": "open"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(TOPIC, order("C"), b"17850", 0)
    producer.flush()
    live.broker.end()
    live.broker.start()
    live.broker.wait_for_leaders(TOPIC)
    epochs = {place: log.leader_epoch for place, log in live.log_now().items()}
    assert min(epochs.values()) > 0
    live.send(1, *orders("D", 1))
    live.run(SECOND)
    assert live.claims(SECOND) == {0: (3, 3), 1: (3, 4), 2: (0, 0), 3: (0, 0)}
    producer.commit_transaction()
    live.run(THIRD)
    assert live.claims(THIRD) == {0: (3, 5), 1: (4, 4), 2: (0, 0), 3: (0, 0)}
    assert live.counts(THIRD)[0] == (1, 1, 1, 0, 0, 0)
    assert live.is_balanced()


def test_records_from_the_future_do_not_hold_back_their_partition(
    live: LiveChain, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    live.send(0, *orders("A", 2))
    live.set_topic(message_timestamp_type="CreateTime", message_timestamp_after_max_ms=str(10**10))
    live.send_stamped(now + timedelta(days=3), 0, *orders("B", 2))
    live.send_stamped(now - timedelta(hours=5), 0, *orders("C", 1))  # and its clock was set back
    live.set_topic(message_timestamp_type="LogAppendTime")
    live.send(1, *orders("D", 1))
    assert live.log_now(now + timedelta(days=1))[TOPIC, 0].at_time == 2
    with caplog.at_level(logging.WARNING):
        live.run(FIRST)
    assert live.claims(FIRST)[0] == (0, 5)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "madhatter.kafka"]
    day = f"{now + timedelta(days=3):%Y-%m-%dT%H:%M}"
    assert re.search(rf"sales\.orders\[0\] has a record stamped {day}.* (2 days, 23:59|3 days)", warning)
    live.send(0, *orders("E", 4))
    live.run(SECOND)
    assert live.claims(SECOND)[0] == (5, 9)
    assert live.is_balanced()
    assert len(live.orders()) == 10


def test_partition_is_cut_by_time_when_its_clock_is_right(live: LiveChain) -> None:
    live.set_topic(message_timestamp_type="CreateTime")
    now = datetime.now(UTC)
    live.send_stamped(now - timedelta(minutes=50), 0, *orders("A", 3))
    live.send_stamped(now - timedelta(minutes=10), 0, *orders("B", 2))

    def claim_until(end: datetime) -> dict[int, tuple[int, int]]:
        live.run(f"hour-{end:%H%M}", lambda last: kafka.next_claims(live.settings, [TOPIC], end, last))
        return live.claims(f"hour-{end:%H%M}")

    assert claim_until(now - timedelta(minutes=30))[0] == (0, 3)
    assert claim_until(now)[0] == (3, 5)
    assert live.is_balanced()


def test_added_partitions_are_read_from_their_first_offset(live: LiveChain) -> None:
    live.send(0, *orders("A", 2))
    live.run(FIRST)
    for added in live.broker.admin.create_partitions([NewPartitions(TOPIC, 6)]).values():
        added.result()
    live.broker.wait_for_leaders(TOPIC)
    live.send(5, *orders("B", 3))
    live.run(SECOND)
    assert live.claims(SECOND) == {0: (2, 2), 1: (0, 0), 2: (0, 0), 3: (0, 0), 4: (0, 0), 5: (0, 3)}
    assert live.counts(SECOND)[5] == (3, 0, 3, 0, 0, 0)
    live.run(THIRD)
    assert set(live.claims(THIRD).values()) == {(2, 2), (0, 0), (3, 3)}
    assert live.is_balanced()


def test_slices_that_begin_and_end_with_holes_are_balanced(live: LiveChain) -> None:
    live.transaction(0, *orders("A", 2), commit=False)  # 0, 1, marker at 2
    live.run(FIRST)
    live.transaction(0, *orders("X", 1), commit=False)  # 3, marker at 4
    live.transaction(0, *orders("B", 2), commit=True)  # 5, 6, marker at 7
    live.transaction(0, *orders("Y", 3), commit=False)  # 8, 9, 10, marker at 11
    live.run(SECOND)
    assert live.counts(FIRST)[0] == (0, 3, 0, 0, 0, 0)
    assert live.counts(SECOND)[0] == (2, 7, 2, 0, 0, 0)
    live.send(0, *orders("C", 1))
    live.run(THIRD)
    assert live.counts(THIRD)[0] == (1, 0, 1, 0, 0, 0)
    assert live.orders() == ["B0", "B1", "C0"]
    assert live.is_balanced()


def expire(live: LiveChain, offset: int) -> None:
    place = TopicPartition(TOPIC, 0, offset)
    live.broker.admin.delete_records([place])[TopicPartition(TOPIC, 0)].result()


def test_offsets_that_expired_after_their_slice_are_no_loss(live: LiveChain) -> None:
    live.send(0, *orders("A", 4))
    live.run(FIRST)
    expire(live, 4)
    live.send(0, *orders("B", 1))
    live.run(SECOND)
    assert live.claims(SECOND)[0] == (4, 5)
    assert live.is_balanced()


def test_offsets_that_expired_before_any_slice_are_named_and_the_runbook_shows_the_gap(live: LiveChain) -> None:
    live.send(0, *orders("A", 2))
    live.run(FIRST)
    live.send(0, *orders("B", 3))
    expire(live, 4)
    with pytest.raises(LogExpired, match=r"sales\.orders\[0\] starts at offset 4, but 2 to 3 were never read: 2 "):
        live.plan(SECOND)
    for statement in runbook_sql("Log expired"):
        live.warehouse.run(statement)
    live.run(SECOND)
    assert live.claims(SECOND)[0] == (4, 5)
    assert live.orders() == ["A0", "A1", "B2"]
    rows = live.warehouse.rows("select * from ops.reconciliation")
    assert [(row["partition"], row["is_balanced"]) for row in rows] == [(0, False)], "what is lost stays visible"


def test_log_that_is_shorter_than_its_claims_is_named(live: LiveChain) -> None:
    live.send(0, *orders("A", 5))
    live.run(FIRST)
    live.broker.stop()
    cut_log(live.broker.folder / "data", 0, 3)
    live.broker.start()
    live.broker.wait_for_leaders(TOPIC)
    with pytest.raises(LogTruncated, match=r"sales\.orders\[0\] ends at offset 3 .* 2 offsets are gone"):
        live.plan(SECOND)


def test_deleted_topic_is_named_and_claims_nothing(live: LiveChain) -> None:
    live.send(0, *orders("A", 1))
    live.run(FIRST)
    live.delete_topic()
    before = live.content("ops")
    with pytest.raises(kafka.TopicsMissing, match=r"topic sales\.orders is not on the broker"):
        live.plan(SECOND)
    assert live.content("ops") == before


def test_broker_that_does_not_tell_where_a_leader_began_is_asked_again_by_the_retry(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "TIMEOUT_S", 0.5)
    unknown = slices.Claim("no-such-topic", 0, "id", 0, 0, 5)
    with pytest.raises(kafka.BrokerDown, match=r"no-such-topic\[0\] did not say"):
        kafka.forked_at({"bootstrap.servers": own_broker.bootstrap}, [unknown])
