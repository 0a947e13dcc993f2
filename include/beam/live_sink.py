"""What leaves the streaming job: minutes as Parquet files with a notice each, signals and dead letters as messages."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import apache_beam as beam
import msgspec
import pyarrow as pa
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from include import signals, storage
from include.beam.live_minutes import Outcome, Row
from include.beam.live_reasons import DeadLetter

NOTICES, LETTERS = "live.batches", "live.dead_letters"
TICK_S = 60
PATIENCE_S = 120  # for Pub/Sub; what it has not taken then fails the bundle
MOST_MILLS = 10**17 - 1
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("minute_ts", pa.timestamp("us")),
        ("country", pa.string()),
        ("category", pa.string()),
        ("channel", pa.string()),
        ("orders", pa.int64()),
        ("units", pa.int64()),
        ("net_sales", pa.decimal128(18, 4)),
        ("refunds", pa.int64()),
        ("sessions", pa.int64()),
        ("views", pa.int64()),
        ("carts", pa.int64()),
        ("is_final", pa.bool_()),
        ("version", pa.int64()),
    ]
)
log = logging.getLogger(__name__)
_publishers: dict[str, Any] = {}
_lock = threading.Lock()


class Message(NamedTuple):
    """A message for a topic."""

    topic: str
    data: bytes
    attributes: dict[str, str]


def position_uri(store: str) -> str:
    """Where the job says up to where its minutes are final."""
    return storage.join(store, "live", "position.json")


def signals_uri(store: str) -> str:
    """Where the job says up to which arrival its signals are with Pub/Sub."""
    return storage.join(store, "live", "signals.json")


def of_signal(signal: signals.Signal) -> Message:
    """A signal as a message."""
    return Message(
        signals.TOPICS[signal.kind], signals.encode(signal), {"kind": signal.kind, "trace_id": signal.trace_id}
    )


def of_letter(letter: DeadLetter) -> Message:
    """A dead letter as a message."""
    return Message(LETTERS, msgspec.json.encode(letter), {"topic": letter.topic})


class Publisher:
    """Publishes to a project's topics, one client a process. PUBSUB_EMULATOR_HOST is the client's own setting."""

    def __init__(self, project: str) -> None:
        from google.cloud import pubsub_v1  # type: ignore[attr-defined]

        settings = pubsub_v1.types.BatchSettings(max_messages=500, max_latency=0.01)
        self.client = pubsub_v1.PublisherClient(batch_settings=settings)
        self.project = project

    def publish(self, messages: Sequence[Message]) -> None:
        """Returns when Pub/Sub has them all. Raises what the client raises, with the topic's name."""
        sent = [
            (m, self.client.publish(self.client.topic_path(self.project, m.topic), m.data, **m.attributes))
            for m in messages
        ]
        for message, future in sent:
            try:
                future.result(timeout=PATIENCE_S)
            except Exception as error:
                raise RuntimeError(
                    f"Pub/Sub topic {message.topic} of project {self.project} takes no messages: {error!r}. "
                    "Is it there (`python -m include.pubsub`) and may the job publish to it?"
                ) from error


def publisher(project: str) -> Publisher:
    """The process's publisher."""
    with _lock:
        if project not in _publishers:
            _publishers[project] = Publisher(project)
        return _publishers[project]  # type: ignore[no-any-return]


class Publish(beam.DoFn):  # type: ignore[misc]
    """Signals and DeadLetters -> Pub/Sub; a bundle ends when they are there. Gives nothing on but its watermark."""

    def __init__(self, project: str) -> None:
        self.project = project

    def setup(self) -> None:
        self.publisher = publisher(self.project)

    def start_bundle(self) -> None:
        self.messages: list[Message] = []

    def process(self, one: signals.Signal | DeadLetter) -> None:
        self.messages.append(of_letter(one) if isinstance(one, DeadLetter) else of_signal(one))

    def finish_bundle(self) -> None:
        self.publisher.publish(self.messages)


class SignalsUntil(beam.DoFn):  # type: ignore[misc]
    """(0, b"") once, and no more than the watermark of what publishes signals -> signals.json, once a minute: before
    that arrival all has been judged, and Pub/Sub has what was found. since_ms: where the job begins."""

    TICK = TimerSpec("tick", TimeDomain.WATERMARK)

    def __init__(self, store: str, since_ms: int) -> None:
        self.store, self.since_ms = store, since_ms

    def process(self, _: tuple[int, bytes], tick: Any = beam.DoFn.TimerParam(TICK)) -> None:
        self._write(self.since_ms)
        tick.set(Timestamp.of(self.since_ms / 1000 + TICK_S))

    @on_timer(TICK)  # type: ignore[misc]
    def on_tick(self, at: Any = beam.DoFn.TimestampParam, tick: Any = beam.DoFn.TimerParam(TICK)) -> None:
        if at.micros <= time.time() * 1_000_000:  # else a drained job: its watermark says nothing about the log
            self._write(at.micros // 1000)
            tick.set(at + TICK_S)

    def _write(self, until_ms: int) -> None:
        storage.write_json(signals_uri(self.store), {"until": _iso(until_ms)})


class WriteMinutes(beam.DoFn):  # type: ignore[misc]
    """Outcome -> a Parquet file of its rows, if there are any, then its notice; after a final one position.json, where
    a later job begins."""

    def __init__(self, store: str, project: str) -> None:
        self.store, self.project = store, project

    def setup(self) -> None:
        self.publisher = publisher(self.project)

    def process(self, outcome: Outcome) -> None:
        now = datetime.now(UTC)
        if outcome.rejected:
            log.warning("rejected of the last %d messages: %s", outcome.read, outcome.rejected)
        if outcome.rows or outcome.final_until_ms is not None:
            batch_id = f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}"
            uri = ""
            if outcome.rows:
                uri = storage.join(self.store, "live", "batches", f"{now:%Y-%m-%d}", f"{batch_id}.parquet")
                storage.write_table(uri, table(outcome))
            notice = notice_of(outcome, batch_id, uri, now)
            self.publisher.publish([Message(NOTICES, msgspec.json.encode(notice), {"batch_id": batch_id})])
        if outcome.final_until_ms is not None:
            storage.write_json(position_uri(self.store), {"final_until": _iso(outcome.final_until_ms)})


def table(outcome: Outcome) -> pa.Table:
    """An outcome's rows as the loader takes them."""
    rows = outcome.rows

    def column(name: str) -> list[Any]:
        return [getattr(row, name) for row in rows]

    made: dict[str, Any] = {name: column(name) for name in SCHEMA.names if name in Row.__struct_fields__}
    made["minute_ts"] = pa.array([row.minute * 60_000_000 for row in rows], pa.int64()).cast(pa.timestamp("us"))
    made["net_sales"] = [_pounds(row.net_sales) for row in rows]
    made["is_final"] = [outcome.final_until_ms is not None] * len(rows)
    made["version"] = [outcome.version] * len(rows)
    return pa.table({name: made[name] for name in SCHEMA.names}, schema=SCHEMA)


def notice_of(outcome: Outcome, batch_id: str, uri: str, written_ts: datetime) -> dict[str, Any]:
    """What is told of a batch. events: messages read since the last one, with copies, late and rejected ones."""
    minutes = [_iso(row.minute * 60_000) for row in (outcome.rows[0], outcome.rows[-1])] if outcome.rows else None
    return {
        "batch_id": batch_id,
        "uri": uri,
        "rows": len(outcome.rows),
        "version": outcome.version,
        "minutes": minutes,
        "final_until": None if outcome.final_until_ms is None else _iso(outcome.final_until_ms),
        "events": outcome.read,
        "late_to_stream": outcome.late,
        "rejected": sum(outcome.rejected.values()),
        "written_ts": written_ts.isoformat(),
        "newest_arrival_ts": _iso(outcome.newest_ms) if outcome.newest_ms else None,
    }


def _pounds(mills: int) -> Decimal:
    """What the column can hold; more than 10^14 GBP a minute is no trade."""
    return Decimal(max(-MOST_MILLS, min(MOST_MILLS, mills))).scaleb(-3)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
