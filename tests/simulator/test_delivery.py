"""A batch into a real broker: everything is where its key belongs, and the account says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pytest
from confluent_kafka import Producer

from local.simulator import batch, shop
from local.simulator.account import Account
from local.simulator.events import TOPICS, Events
from local.simulator.log import Left
from local.simulator.market import Market
from local.simulator.pace import Pace
from local.simulator.partitions import partitions
from local.simulator.producer import NotDelivered, open_producer
from tests.simulator.conftest import MONDAY_MS, SEED
from tests.simulator.contracts import setting
from tests.simulator.ledger import account, contents, create_topics
from tests.stand_ins import Broker, until


def test_batch_is_in_the_topics_as_the_account_says(known: shop.Shop, broker: Broker, tmp_path: Path) -> None:
    prefix = create_topics(broker)
    market = Market(known, Pace.of(SEED, 100))
    noon = MONDAY_MS + 12 * 3_600_000
    written = Account(tmp_path, prefix)
    parts = batch.pieces(market, noon, noon + 600_000)
    sent = batch.send(broker.bootstrap, parts, account=written, prefix=prefix)
    rows = account(tmp_path)
    assert len(rows) == sent.events > 50_000
    there = contents(broker, prefix)
    assert rows == there
    assert {row.topic for row in rows} == {f"{prefix}{topic}" for topic in TOPICS}


def test_batch_that_fills_the_queue_is_sent_whole(
    known: shop.Shop, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(batch.SETTINGS, "queue.buffering.max.messages", 500)
    prefix = create_topics(broker)
    parts = batch.pieces(Market(known, Pace.of(SEED, 100)), MONDAY_MS, MONDAY_MS + 100_000)
    sent = batch.send(broker.bootstrap, parts, account=Account(tmp_path, prefix), prefix=prefix)
    assert sent.events > 8_000
    assert account(tmp_path) == contents(broker, prefix)


@pytest.fixture(scope="module")
def pieces(known: shop.Shop) -> list[Events]:
    return list(batch.pieces(Market(known, Pace.of(SEED, 1_000)), MONDAY_MS, MONDAY_MS + 60_000))


@pytest.fixture(scope="module")
def whole(broker: Broker, pieces: list[Events]) -> dict[str, list[tuple[int | None, bytes | None]]]:
    """What one undisturbed sending leaves."""
    prefix = create_topics(broker)
    batch.send(broker.bootstrap, iter(pieces), prefix=prefix)
    return messages(broker, prefix)


def messages(broker: Broker, prefix: str) -> dict[str, list[tuple[int | None, bytes | None]]]:
    """Partition and value of all messages of each topic, in the log's order."""
    return {topic: [(m.partition(), m.value()) for m in broker.read(f"{prefix}{topic}")] for topic in TOPICS}


def start_of(prefix: str) -> dict[tuple[str, int], int]:
    """The beginning of all topics' partitions."""
    return {
        place: 0 for topic in TOPICS for place in product([f"{prefix}{topic}"], range(setting(topic, "partitions")))
    }


def break_off(broker: Broker, prefix: str, pieces: list[Events], account: Account | None = None) -> int:
    """Sends some of it until a Ctrl-C; returns how many messages have arrived."""
    with pytest.raises(KeyboardInterrupt):
        batch.send(broker.bootstrap, interrupted(broker, prefix, pieces), account=account, prefix=prefix)
    return len(contents(broker, prefix))


def interrupted(broker: Broker, prefix: str, pieces: list[Events]) -> Iterator[Events]:
    for events in pieces[: len(pieces) // 2]:
        for at in range(0, len(events), 1_000):
            yield events.take(np.arange(at, min(at + 1_000, len(events))))
    until(lambda: len(contents(broker, prefix)) > 1_000, "the first thousand events")
    raise KeyboardInterrupt


def test_sending_that_was_broken_off_goes_on_where_it_stopped(
    broker: Broker, pieces: list[Events], whole: dict[str, list[tuple[int | None, bytes | None]]], tmp_path: Path
) -> None:
    prefix = create_topics(broker)
    there = break_off(broker, prefix, pieces, Account(tmp_path, prefix, run="again"))
    left = Left(broker.bootstrap, start_of(prefix))
    again = Account(tmp_path, prefix, run="again")
    sent = batch.send(broker.bootstrap, iter(pieces), account=again, prefix=prefix, left=left)
    assert (sent.events, sent.kept) == (sum(map(len, pieces)), there)
    assert messages(broker, prefix) == whole
    assert account(tmp_path) == contents(broker, prefix)


def test_foreign_message_after_a_broken_off_sending_costs_no_event(
    broker: Broker, pieces: list[Events], whole: dict[str, list[tuple[int | None, bytes | None]]]
) -> None:
    prefix = create_topics(broker)
    break_off(broker, prefix, pieces)
    producer = open_producer(broker.bootstrap, {})
    for number in range(100):
        producer.produce(f"{prefix}sales.orders", b"{}", b"%d" % number)
        producer.produce(f"{prefix}web.interactions", b"{}", b"%d" % number)
    assert producer.flush(30) == 0
    left = Left(broker.bootstrap, start_of(prefix))
    batch.send(broker.bootstrap, iter(pieces), prefix=prefix, left=left)
    found = messages(broker, prefix)
    for topic in TOPICS:
        assert set(whole[topic]) <= set(found[topic]), topic


def test_account_can_be_counted_by_topic_partition_hour_kind_and_label(
    known: shop.Shop, broker: Broker, tmp_path: Path
) -> None:
    prefix = create_topics(broker)
    market = Market(known, Pace.of(SEED, 20))
    parts = list(batch.pieces(market, MONDAY_MS, MONDAY_MS + 3_600_000))
    batch.send(broker.bootstrap, iter(parts), account=Account(tmp_path, prefix), prefix=prefix)
    with duckdb.connect() as connection:
        counted = connection.execute(
            "select topic, partition, date_trunc('hour', event_ts), kind, label, count(*) "
            "from read_parquet(?) group by all",
            [f"{tmp_path}/*.parquet"],
        ).fetchall()
    assert sum(row[-1] for row in counted) == sum(map(len, parts))
    assert {"normal", "late", "duplicate"} <= {row[3] for row in counted}
    assert {"", "bot"} <= {row[4] for row in counted}
    assert datetime.fromtimestamp(MONDAY_MS / 1000, UTC).replace(tzinfo=None) in {row[2] for row in counted}


def test_keys_are_put_where_other_producers_put_them(broker: Broker) -> None:
    topic = broker.create()
    keys = [f"{'k' * (at % 23)}{at}".encode() for at in range(3_000)]
    producer: Producer = open_producer(broker.bootstrap, {})
    for key in keys:
        producer.produce(topic, b"{}", key)
    assert producer.flush(30) == 0
    placed = {message.key(): message.partition() for message in broker.read(topic)}
    assert partitions(keys, 4).tolist() == [placed[key] for key in keys]
    # Also a few at a time, and with a count for each.
    assert partitions(keys[:7], np.full(7, 4)).tolist() == [placed[key] for key in keys[:7]]
    assert len(Counter(placed.values())) == 4


def test_message_that_the_broker_refuses_is_an_error(known: shop.Shop, broker: Broker) -> None:
    prefix = create_topics(broker)
    parts = batch.pieces(Market(known, Pace.of(SEED, 50)), MONDAY_MS, MONDAY_MS + 60_000)

    def with_one_too_large() -> Iterator[Events]:
        for events in parts:
            events.values[0] = b"x" * 2_000_000
            yield events

    with pytest.raises(NotDelivered, match="Message size too large"):
        batch.send(broker.bootstrap, with_one_too_large(), prefix=prefix)
