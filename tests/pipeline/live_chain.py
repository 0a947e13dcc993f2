"""A slice step by step over a real broker's log: planned, read, staged and published by the platform's own code."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from include.beam.plan import Chunk
from include.beam.source import ChunkReader, Records
from madhatter import kafka, ledger, slices
from madhatter.warehouse import Warehouse
from tests.pipeline.chain import TOPIC, Chain, Claimer
from tests.stand_ins import Broker, until


class LiveChain(Chain):
    """A chain over a new topic on a broker of the test's own."""

    def __init__(self, warehouse: Warehouse, folder: Path, broker: Broker) -> None:
        super().__init__(warehouse, folder)
        self.broker = broker
        self.settings = {"bootstrap.servers": broker.bootstrap, "log_level": 2}
        if TOPIC in broker.admin.list_topics(timeout=10).topics:
            self.delete_topic()
        kafka.create_topics(broker.admin, [TOPIC])
        broker.wait_for_leaders(TOPIC)

    def delete_topic(self) -> None:
        for deleted in self.broker.admin.delete_topics([TOPIC]).values():
            deleted.result()
        until(lambda: TOPIC not in self.broker.admin.list_topics(timeout=10).topics, "the topic is gone")

    def send(self, partition: int, *values: bytes | None, topic: str = TOPIC) -> None:
        """Each value in a batch of its own."""
        self.send_stamped(None, partition, *values, topic=topic)

    def send_stamped(self, stamp: datetime | None, partition: int, *values: bytes | None, topic: str = TOPIC) -> None:
        """stamp: their time, where the topic lets the sender say it."""
        producer = Producer(self.settings)
        for value in values:
            producer.produce(topic, value, b"17850", partition, timestamp=int(stamp.timestamp() * 1000) if stamp else 0)
            assert producer.flush(30) == 0

    def transaction(self, partition: int, *values: bytes, commit: bool) -> None:
        """The values, and the marker that takes an offset after them."""
        producer = Producer({**self.settings, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(30)
        before = self.log_now()[TOPIC, partition].stable_end
        producer.begin_transaction()
        for value in values:
            producer.produce(TOPIC, value, b"17850", partition)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
        end = before + len(values) + 1
        until(lambda: self.log_now()[TOPIC, partition].stable_end == end, "the marker is written")

    def set_topic(self, **config: str) -> None:
        """Sets the topic's configuration; `_` stands for `.` in the names."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=entries)
        for done in self.broker.admin.incremental_alter_configs([resource]).values():
            done.result()

    def log_now(self, window_end: datetime | None = None) -> dict[slices.Place, slices.PartitionLog]:
        return kafka.read_log(self.broker.admin, [TOPIC], window_end or datetime.now(UTC))

    def claim(self, last: dict[slices.Place, slices.Claim]) -> list[slices.Claim]:
        """All that has arrived, as the planner claims it for a window that ends now."""
        return kafka.next_claims(self.settings, [TOPIC], datetime.now(UTC) + timedelta(seconds=1), last)

    def plan(self, slice_id: str, warehouse: Warehouse | None = None, claim: Claimer | None = None) -> ledger.Slice:
        return super().plan(slice_id, warehouse, claim or self.claim)

    def read(self, chunk: Chunk) -> Records:
        reader = ChunkReader(self.broker.bootstrap)
        try:
            return reader.read(chunk)
        finally:
            reader.close()

    def claims(self, slice_id: str) -> dict[int, tuple[int, int]]:
        """Partition -> start, end."""
        found = ledger.find(self.warehouse, slice_id)
        assert found is not None
        return {one.partition: (one.start, one.end) for one in found.claims}

    def orders(self) -> list[str]:
        """The orders that are visible."""
        return sorted(row["order_id"] for row in self.warehouse.rows("select order_id from core.order_header"))


def cut_log(data: Path, partition: int, offset: int) -> None:
    """Cuts a stopped broker's partition before an offset at which a batch begins, as a replica that never had more."""
    folder = data / f"{TOPIC}-{partition}"
    (segment,) = folder.glob("*.log")
    raw = segment.read_bytes()
    (at,) = [place for first, place in _batches(raw) if first == offset]
    segment.write_bytes(raw[:at])
    for file in folder.iterdir():
        if file.suffix in (".index", ".timeindex", ".txnindex", ".snapshot"):
            file.unlink()
    (data / ".kafka_cleanshutdown").unlink(missing_ok=True)


def _batches(raw: bytes) -> Iterator[tuple[int, int]]:
    """(first offset, position) of each record batch (KIP-98: offset, 8 bytes; length of what follows, 4 bytes)."""
    at = 0
    while at < len(raw):
        first, length = struct.unpack_from(">qi", raw, at)
        yield first, at
        at += 12 + length
