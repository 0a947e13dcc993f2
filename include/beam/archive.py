"""The archive: the raw bytes of every chunk as they arrived. A replay reads it when the log no longer has them.

<store>/archive/<topic>/<partition>/<topic>-<partition>-<start>-<end>.parquet, offsets [start, end), one row a record:
offset, arrival_ts, key, value, and rejected: why it was a dead letter, where its bytes no longer tell because a card
number in them is masked.
"""

from __future__ import annotations

import posixpath
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from include import storage
from include.beam import cards
from include.beam.parse import Parsed
from include.beam.plan import Chunk
from include.beam.source import ChunkError, Records

_RANGE = re.compile(r"-(\d+)-(\d+)\.parquet$")


class ArchiveGap(LookupError):
    """The archive lacks offsets: topic, partition, which ones, and where they should be."""


def folder(store: str, topic: str, partition: int) -> str:
    """Where the chunks of a partition are."""
    return storage.join(store, "archive", topic, str(partition))


def uri(store: str, chunk: Chunk) -> str:
    """A chunk's file."""
    return storage.join(folder(store, chunk.topic, chunk.partition), f"{chunk.name}.parquet")


def write(store: str, chunk: Chunk, records: Records, parsed: Parsed) -> None:
    """Writes a chunk's records. Card numbers in dead letters, in events with one in a text and in keys are masked; no
    other event has one."""
    fixed = {offset for offset, _ in chunk.fixes}
    suspects = {*parsed.reasons, *parsed.masked, *(at for at, offset in enumerate(records.offsets) if offset in fixed)}
    values = [cards.mask_message(value) if at in suspects else value for at, value in enumerate(records.values)]
    keys = pa.array(records.keys, pa.binary())
    near = cards.suspects(keys, are_identifiers=True)
    if found := {at: key for at in near if cards.is_in_identifier((key := keys[at].as_py()).decode("latin-1"))}:
        masked = {at: cards.mask(key) for at, key in found.items()}
        keys = pa.array([masked.get(at, key) for at, key in enumerate(records.keys)], pa.binary())
    changed = {at: why for at, why in parsed.reasons.items() if values[at] != records.values[at]}
    table = pa.table(
        {
            "offset": pa.array(records.offsets, pa.int64()),
            "arrival_ts": pa.array(records.arrivals_ms, pa.int64()).cast(pa.timestamp("ms")),
            "key": keys,
            "value": pa.array(values, pa.binary()),
            "rejected": pa.array(list(map(changed.get, range(len(records)))), pa.string()),
        }
    )
    storage.write_table(uri(store, chunk), table, write_page_checksum=True)


def chunks(store: str, slice_id: str, topic: str, partition: int, start: int, end: int) -> list[Chunk]:
    """The chunks in the archive that together are [start, end) of a partition. Where it was archived twice, cut in
    other ways, either cut will do. Raises ArchiveGap."""
    ranges = sorted(
        (int(found[1]), int(found[2]))
        for name in storage.names(folder(store, topic, partition))
        if (found := _RANGE.search(posixpath.basename(name)))
    )
    reach: dict[int, int] = {end: end}  # an offset from which files lead to the end -> the end of the first of them
    for first, past_last in reversed(ranges):
        if past_last in reach and start <= first < past_last:
            reach[first] = past_last
    found_chunks = []
    at = start
    while at < end and at in reach:
        found_chunks.append(Chunk(slice_id, topic, partition, at, reach[at]))
        at = reach[at]
    if at < end:
        has = ", ".join(f"{first}..{past_last - 1}" for first, past_last in ranges if past_last > start and first < end)
        raise ArchiveGap(
            f"slice {slice_id} is {topic}[{partition}] {start}..{end - 1}, but {folder(store, topic, partition)} has "
            f"{has or 'nothing of it'}. Put the missing files back, or replay from kafka"
        )
    return found_chunks


class ArchiveReader:
    """Reads chunks as a ChunkReader does, from the archive."""

    def __init__(self, store: str) -> None:
        self.store = store

    def read(self, chunk: Chunk) -> Records:
        """All records of a chunk. Raises ChunkError naming the file when it is missing, broken or another one's."""
        file = uri(self.store, chunk)
        try:
            filesystem, path = storage.locate(file)
            table = pq.read_table(path, filesystem=filesystem, page_checksum_verification=True)
            offsets = table["offset"].to_numpy()
            if len(offsets) and not (
                offsets[0] >= chunk.start and offsets[-1] < chunk.end and (np.diff(offsets) > 0).all()
            ):
                raise ValueError("its offsets are not the chunk's, each once and in order")
            rejected = {at: why for at, why in enumerate(table["rejected"].to_pylist()) if why is not None}
            return Records(
                offsets=offsets.tolist(),
                arrivals_ms=table["arrival_ts"].cast(pa.int64()).to_pylist(),
                keys=table["key"].to_pylist(),
                values=table["value"].to_pylist(),
                rejected=rejected,
            )
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            storage.check_reachable(self.store)
            raise ChunkError(
                f"{file} cannot be replayed ({error}): put a copy of it back, or replay from kafka"
            ) from error

    def close(self) -> None:
        """Nothing is kept open."""
