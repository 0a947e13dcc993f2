"""Reads chunks of offsets from Kafka: every committed record between start and end, and no other."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from include.beam.plan import Chunk

STALL_S = 60.0
# For a log that ends before its plan: a leader just elected learns in a moment how far its log is committed.
END_S = 5.0
LEARN_S = 5.0
BATCH = 20_000
SETTINGS: dict[str, Any] = {
    "group.id": "hourly",  # required by the client; nothing is ever committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # an expired offset is a loss to be told, never a jump
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.min.bytes": 1_000_000,
    "fetch.wait.max.ms": 20,
    "fetch.message.max.bytes": 16_777_216,
    "queued.min.messages": 1_000_000,
    "queued.max.messages.kbytes": 131_072,
    "log_level": 2,  # the client would tell twenty times a second that a broker is away; ChunkError says it once
}


class ChunkError(RuntimeError):
    """A chunk that cannot be read whole: topic, partition, offsets and cause."""


@dataclass
class Records:
    """Columns of a chunk, in log order. arrivals_ms: broker time, ms since the epoch. rejected: index -> why a record
    is a dead letter, where its bytes no longer tell."""

    offsets: list[int] = field(default_factory=list)
    arrivals_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets)


class ChunkReader:
    """A consumer that is moved from chunk to chunk."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.trouble = "no error was reported"
        settings = {**SETTINGS, "bootstrap.servers": bootstrap_servers, "error_cb": self._remember}
        self.consumer = Consumer(settings)
        self.known: set[str] = set()

    def _remember(self, error: KafkaError) -> None:
        self.trouble = error.str()

    def read(self, chunk: Chunk) -> Records:
        """All records with start <= offset < end. Offsets that hold none (transaction markers, aborted records) are
        missing from the result. Raises ChunkError when the log no longer has them or stops answering."""
        where = f"{chunk.topic}[{chunk.partition}] {chunk.start}..{chunk.end - 1}"
        self._learn(chunk.topic)
        self.consumer.assign([TopicPartition(chunk.topic, chunk.partition, chunk.start)])
        records = Records()
        offsets, arrivals, keys, values = records.offsets, records.arrivals_ms, records.keys, records.values
        heard, ended = time.monotonic(), ""
        while True:
            # Asked for more than the chunk has left, it would wait until the time is over.
            left = chunk.end - (offsets[-1] + 1 if offsets else chunk.start)
            messages = self.consumer.consume(min(BATCH, left), 0.5)
            if messages:
                heard = time.monotonic()
            elif ended and time.monotonic() - heard > END_S:
                raise ChunkError(f"{where}: the log ends at {ended}; was the topic truncated?")
            elif time.monotonic() - heard > STALL_S:
                raise ChunkError(
                    f"{where}: no answer from the broker for {STALL_S:.0f} s ({self.trouble}); "
                    f"read {len(offsets)} records"
                )
            for message in messages:
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        if int(message.offset() or 0) >= chunk.end:
                            return records
                        ended = str(message.offset())
                        continue
                    if error.code() == KafkaError._AUTO_OFFSET_RESET:
                        raise ChunkError(
                            f"{where}: these offsets have left the log ({error.str()}); replay the archive"
                        )
                    raise ChunkError(f"{where}: {error.str()}") from KafkaException(error)
                ended = ""
                offset: int = message.offset()  # type: ignore[assignment]
                if offset >= chunk.end:
                    return records
                offsets.append(offset)
                arrivals.append(message.timestamp()[1])
                keys.append(message.key())
                values.append(message.value() or b"")
            if offsets and offsets[-1] == chunk.end - 1:
                return records

    def _learn(self, topic: str) -> None:
        """Asks for the leaders of a topic's partitions. Told of a new topic by `assign` alone, the client looks for
        them when its timer comes round: a second for each topic."""
        if topic not in self.known:
            with suppress(KafkaException):  # a broker that is away: reading tells of it, with its patience
                self.consumer.list_topics(topic, timeout=LEARN_S)
            self.known.add(topic)

    def close(self) -> None:
        self.consumer.close()
