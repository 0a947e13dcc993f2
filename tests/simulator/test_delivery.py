"""A batch into a real broker: everything is where its key belongs, and the account says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
from confluent_kafka import Producer

from local.simulator import batch, shop
from local.simulator.account import Account
from local.simulator.events import TOPICS, Events
from local.simulator.market import Market
from local.simulator.pace import Pace
from local.simulator.partitions import partitions
from local.simulator.producer import NotDelivered, open_producer
from tests.simulator.conftest import MONDAY_MS, SEED
from tests.simulator.ledger import account, contents, create_topics
from tests.stand_ins import Broker


def test_batch_is_in_the_topics_as_the_account_says(known: shop.Shop, kafka: Broker, tmp_path: Path) -> None:
    prefix = create_topics(kafka)
    market = Market(known, Pace.of(SEED, 100))
    noon = MONDAY_MS + 12 * 3_600_000
    written = Account(tmp_path, prefix)
    parts = batch.pieces(market, noon, noon + 600_000)
    sent = batch.send(kafka.bootstrap, parts, account=written, prefix=prefix)
    rows = account(tmp_path)
    assert len(rows) == sent.events > 50_000
    there = contents(kafka, prefix)
    assert rows == there
    assert {row.topic for row in rows} == {f"{prefix}{topic}" for topic in TOPICS}


def test_batch_that_fills_the_queue_is_sent_whole(
    known: shop.Shop, kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(batch.SETTINGS, "queue.buffering.max.messages", 500)
    prefix = create_topics(kafka)
    parts = batch.pieces(Market(known, Pace.of(SEED, 100)), MONDAY_MS, MONDAY_MS + 100_000)
    sent = batch.send(kafka.bootstrap, parts, account=Account(tmp_path, prefix), prefix=prefix)
    assert sent.events > 8_000
    assert account(tmp_path) == contents(kafka, prefix)


def test_account_can_be_counted_by_topic_partition_hour_kind_and_label(
    known: shop.Shop, kafka: Broker, tmp_path: Path
) -> None:
    prefix = create_topics(kafka)
    market = Market(known, Pace.of(SEED, 20))
    parts = list(batch.pieces(market, MONDAY_MS, MONDAY_MS + 3_600_000))
    batch.send(kafka.bootstrap, iter(parts), account=Account(tmp_path, prefix), prefix=prefix)
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


def test_keys_are_put_where_other_producers_put_them(kafka: Broker) -> None:
    topic = kafka.create()
    keys = [f"{'k' * (at % 23)}{at}".encode() for at in range(3_000)]
    producer: Producer = open_producer(kafka.bootstrap, {})
    for key in keys:
        producer.produce(topic, b"{}", key)
    assert producer.flush(30) == 0
    placed = {message.key(): message.partition() for message in kafka.read(topic)}
    assert partitions(keys, 4).tolist() == [placed[key] for key in keys]
    # Also a few at a time, and with a count for each.
    assert partitions(keys[:7], np.full(7, 4)).tolist() == [placed[key] for key in keys[:7]]
    assert len(Counter(placed.values())) == 4


def test_message_that_the_broker_refuses_is_an_error(known: shop.Shop, kafka: Broker) -> None:
    prefix = create_topics(kafka)
    parts = batch.pieces(Market(known, Pace.of(SEED, 50)), MONDAY_MS, MONDAY_MS + 60_000)

    def with_one_too_large() -> Iterator[Events]:
        for events in parts:
            events.values[0] = b"x" * 2_000_000
            yield events

    with pytest.raises(NotDelivered, match="Message size too large"):
        batch.send(kafka.bootstrap, with_one_too_large(), prefix=prefix)
