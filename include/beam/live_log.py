"""One partition of the log for the streaming job: batches of committed messages, and how far the broker confirms it.

A log's place is kept across bundles, with its consumer and what it has fetched ahead.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

MOST = 8_000  # messages of a batch
MOST_BYTES = 8_000_000
AT_A_TIME = 500  # asked of the client: few, as one huge message is 3,000 usual ones
CONFIRM_S = 0.5  # an idle partition asks the broker so often that there is nothing new
ANSWER_S = 5.0
SETTINGS: dict[str, Any] = {
    "group.id": "live",  # required by the client; nothing is ever committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # an expired offset is a loss to be told, never a jump
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.min.bytes": 32_768,  # a slow topic is asked twenty times a second, not once an event
    "fetch.wait.max.ms": 50,
    "queued.max.messages.kbytes": 4_096,
    "log_level": 2,
}


class LogLost(RuntimeError):
    """Offsets that the job needs have left the log: topic, partition, offset and what to do."""


class Split(NamedTuple):
    """A partition to be read from an offset on. from_ms: arrival from which on it tells of time (POSIX)."""

    bootstrap_servers: str
    topic: str
    partition: int
    start: int
    from_ms: int

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}"


class Batch(NamedTuple):
    """Messages of one partition in log order, in columns. arrivals_ms: broker time, POSIX milliseconds."""

    topic: str
    partition: int
    offsets: list[int]
    arrivals_ms: list[int]
    values: list[bytes]

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}"


class PartitionLog:
    """Reads one partition on and on. end: the high watermark as last heard; idle_since_s: wall clock (POSIX seconds) at
    which the broker was asked and had nothing beyond what was read, None where it has."""

    def __init__(self, split: Split) -> None:
        self.topic, self.partition = split.topic, split.partition
        self.consumer = Consumer({**SETTINGS, "bootstrap.servers": split.bootstrap_servers})
        self.offset = -1
        self.end = -1
        self.mean_bytes = 400
        self.idle_since_s: float | None = None
        self._confirmed_s = 0.0
        self._eof = -1

    def seek(self, offset: int) -> None:
        """Makes this the next offset to read."""
        if offset != self.offset:
            with suppress(KafkaException):  # without it the client takes a second to look for a topic's leaders
                self.consumer.list_topics(self.topic, timeout=ANSWER_S)
            self.consumer.assign([TopicPartition(self.topic, self.partition, offset)])
            self.offset, self._eof = offset, -1

    def read(self, wait_s: float) -> Batch:
        """What comes within a time; empty when nothing does. Moves on behind it. Raises LogLost."""
        offsets: list[int] = []
        arrivals: list[int] = []
        values: list[bytes] = []
        size, full, deadline = 0, True, time.monotonic() + wait_s
        # Waits no longer than that, but takes what is there: a job that is behind has large batches and catches up.
        while len(values) < MOST and size < MOST_BYTES and (full or time.monotonic() < deadline):
            left = deadline - time.monotonic()
            messages = self.consumer.consume(AT_A_TIME, max(left, 0.001))
            full = len(messages) == AT_A_TIME
            for message in messages:
                if error := message.error():
                    self._heed(error, int(message.offset() or -1))
                    continue
                value = message.value() or b""
                size += len(value)
                values.append(value)
                offsets.append(message.offset())  # type: ignore[arg-type]
                arrivals.append(message.timestamp()[1])
        if values:
            self.offset, self.mean_bytes, self.idle_since_s = offsets[-1] + 1, size // len(values) + 1, None
            self.end = max(self.end, self.consumer.get_watermark_offsets(self._place(), cached=True)[1])
        else:
            self._confirm()
        return Batch(self.topic, self.partition, offsets, arrivals, values)

    def _heed(self, error: KafkaError, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._eof = offset
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise LogLost(
                f"{self.topic}[{self.partition}]: offset {self.offset} has left the log ({error.str()}). Minutes and "
                "signals of what is lost cannot be had; start the job again, it goes on at the oldest offset there is. "
                "Lengthen the topic's retention when this comes from a job that was away for too long."
            )
        # Everything else (a broker away, an election) passes, or is told by the client's own log.

    def _confirm(self) -> None:
        """Asks the broker whether there is nothing beyond the offset, unless it was asked a moment ago."""
        now = time.time()
        if now - self._confirmed_s < CONFIRM_S:
            return
        self._confirmed_s = now
        try:
            _, self.end = self.consumer.get_watermark_offsets(self._place(), timeout=ANSWER_S, cached=False)
        except KafkaException:
            self.idle_since_s = None
            return
        # Markers of transactions fill offsets at the end that no message comes for. What is asked for ends before the
        # first open transaction; what fetches say is the whole log's end: its messages are still to come.
        _, high = self.consumer.get_watermark_offsets(self._place(), cached=True)
        self.idle_since_s = now if max(self.offset, self._eof) >= max(self.end, high) else None

    def _place(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def close(self) -> None:
        self.consumer.close()


_kept: dict[str, PartitionLog] = {}
_lock = threading.Lock()


def take(split: Split) -> PartitionLog:
    """The partition's log, this process's own until it is given back."""
    with _lock:
        found = _kept.pop(f"{split.bootstrap_servers}/{split.place}", None)
    return found or PartitionLog(split)


def give_back(split: Split, log: PartitionLog) -> None:
    """Keeps a log for the next bundle."""
    with _lock:
        _kept[f"{split.bootstrap_servers}/{split.place}"] = log


def backlog(split: Split, offset: int) -> tuple[int, int]:
    """(messages beyond an offset, bytes of one), as far as is known here; asks the broker where nothing is."""
    with _lock:
        log = _kept.get(f"{split.bootstrap_servers}/{split.place}")
        if log is not None and log.end >= 0:
            return max(0, log.end - offset), log.mean_bytes
    log = take(split)
    with suppress(KafkaException):
        log.end = log.consumer.get_watermark_offsets(log._place(), timeout=ANSWER_S)[1]
    give_back(split, log)
    return max(0, log.end - offset), log.mean_bytes


def kept() -> int:
    """How many partitions this process reads."""
    return max(1, len(_kept) + 1)
