"""The streaming job on Prism, over a real broker and Pub/Sub: what it tells follows from the log, whatever ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

from include import storage
from include.beam.live_sink import position_uri
from include.beam.rules import thresholds
from tests.live import market
from tests.live.job import Live, Told
from tests.live.truth import LogTruth, written
from tests.stand_ins import Broker, PubSub, until

MINUTE_MS = 60_000
VELOCITY = thresholds.read().order_velocity


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Live]:
    """A job that is not started, over a broker with topics and a Pub/Sub of its own."""
    places = [tmp_path / name for name in ("broker", "pubsub", "job")]
    for place in places:
        place.mkdir()
    broker, pubsub, live = Broker(places[0]), PubSub(places[1]), Live(places[2])
    broker.start()
    market.create_topics(broker)
    pubsub.start()
    live.broker, live.pubsub = broker, pubsub
    yield live
    live.end()
    broker.end()
    pubsub.end()


def minute(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)


def begin_at(job: Live, since_ms: int) -> None:
    """Lets the job begin where a former one has ended."""
    storage.write_json(position_uri(job.store.as_uri()), {"final_until": minute(since_ms).isoformat() + "+00:00"})


def is_final(job: Live, end_ms: int) -> bool:
    assert job.started is not None
    assert job.started.poll() is None, job.log.read_text()[-3000:]
    return job.final_until >= minute(end_ms).isoformat()


def rows(job: Live) -> list[tuple[Any, ...]]:
    return written(str(job.store)) if list(job.store.glob("live/batches/*/*.parquet")) else []


def fast_buyers(truth: LogTruth) -> set[tuple[str, str]]:
    """(subject, event id) of each order beyond the most in its customer's, or card's, window."""
    width = f"interval {VELOCITY.window_s * 1000 - 1} milliseconds"
    rows = truth.db.execute(
        f"""
        with bought as (
            select subject, event_id, event_ts, arrival_ms, count(*) over (
                partition by subject order by event_ts range between {width} preceding and current row
            ) as orders
            from accepted inner join party using (topic, "partition", "offset")
            where copy = 1 and order_type in ('sale', 'declined')
        )
        select subject, event_id from bought where orders > {VELOCITY.most_orders}
        """
    ).fetchall()
    return set(rows)


def signals_until(job: Live) -> datetime:
    said = json.loads((job.store / "live" / "signals.json").read_text())["until"]
    return datetime.fromisoformat(said).replace(tzinfo=None)


def names(told: list[dict[str, Any]], kind: str) -> set[tuple[str, str]]:
    return {(signal["subject"], signal["event_id"]) for signal in told if signal["kind"] == kind}


def test_minutes_and_signals_are_what_the_log_says_though_runner_and_worker_are_killed(job: Live) -> None:
    """One log, read by a job that loses its runner, then its worker, each after some minutes were final."""
    assert job.broker is not None
    assert job.pubsub is not None
    told = Told(job.pubsub)
    now_ms = int(time.time()) * 1000
    end_ms = now_ms // MINUTE_MS * MINUTE_MS - 2 * MINUTE_MS
    since_ms = end_ms - 8 * MINUTE_MS
    random = Random(1)
    market.send(
        job.broker,
        iter(
            [
                *market.visits(since_ms - 5 * MINUTE_MS, end_ms + MINUTE_MS, 50),
                *market.orders(since_ms, end_ms + MINUTE_MS, 1_500, random),
            ]
        ),
    )
    begin_at(job, since_ms)
    job.start()
    until(lambda: is_final(job, since_ms + MINUTE_MS), "a minute is final")
    (runner,) = job.prisms()
    runner.kill()
    assert job.started is not None
    job.started.wait(60)  # without its runner the worker ends, so that whoever watches it starts it again
    job.start()
    until(lambda: is_final(job, since_ms + 3 * MINUTE_MS), "more minutes are final")
    job.end()
    job.start()
    until(lambda: is_final(job, end_ms), "all minutes are final")

    truth = LogTruth(job.broker.bootstrap)
    expected = truth.minutes(minute(since_ms), minute(end_ms))
    got = [row for row in written(str(job.store)) if row[1] < minute(end_ms)]
    assert [row[:-1] for row in got] == expected
    assert all(row[-1] for row in got)
    assert len(expected) > 100
    assert names(told.signals(), "order_velocity") == fast_buyers(truth)
    assert told.of("live.dead_letters") == []
    until(lambda: signals_until(job) >= minute(end_ms), "its signals are out up to there too")


def test_partition_that_is_added_is_read_from_its_beginning(job: Live) -> None:
    assert job.broker is not None
    assert job.pubsub is not None
    told = Told(job.pubsub)
    since_ms = int(time.time()) * 1000 // MINUTE_MS * MINUTE_MS - 3 * MINUTE_MS
    begin_at(job, since_ms)
    job.start()
    until(lambda: is_final(job, since_ms + MINUTE_MS), "the job runs")
    for made in job.broker.admin.create_partitions([NewPartitions("sales.orders", 3)]).values():
        made.result()
    producer = Producer({"bootstrap.servers": job.broker.bootstrap})
    event = market.order("o-new", int(time.time() * 1000), "C1", Random(0)) | {"order_type": "sale"}
    producer.produce("sales.orders", json.dumps(event).encode(), partition=2)
    assert producer.flush(60) == 0
    until(lambda: any(row[5] == 1 for row in rows(job)), "the order is counted")
    assert max(batch["events"] for batch in told.of("live.batches")) == 1
