"""Writes one chunk: its tables and dead letters, each as a Parquet file that appears whole, and its raw archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include import references, storage
from include.beam import archive
from include.beam.parse import MICROSECONDS, Parsed, Parser, payload_text
from include.beam.plan import Chunk, ChunkResult, File, Plan
from include.beam.source import Records
from include.fixes import rule

DEAD_LETTER = "dead_letter"


def parser(topic: str, pinned: Mapping[str, str]) -> Parser:
    """A topic's parser over pinned references ({name: URI}), made once a process."""
    return _parser(topic, tuple(sorted(pinned.items())))


@cache
def _parser(topic: str, pinned: tuple[tuple[str, str], ...]) -> Parser:
    return Parser(topic, {name: references.read(uri) for name, uri in pinned})


def write_chunk(plan: Plan, chunk: Chunk, records: Records) -> ChunkResult:
    """Parses and writes the records of a chunk; the result names every file that belongs to the load."""
    parsed = parser(chunk.topic, plan.references).parse(mended(chunk, records))
    tables = {name: _positioned(plan, chunk, records, parsed, name) for name in parsed.tables}
    tables[DEAD_LETTER] = _dead_letters(plan, chunk, records, parsed)
    files = []
    for name, table in tables.items():
        if table.num_rows:
            path = chunk.path(name)
            size = storage.write_table(storage.join(plan.folder, path), table)
            files.append(File(name, path, table.num_rows, size))
    if plan.source != "archive":
        archive.write(plan.store, chunk, records, parsed)
    hours = sorted(
        {moment.isoformat() for name in parsed.tables for moment in pc.unique(tables[name]["event_hour"]).to_pylist()}
    )
    return ChunkResult(
        chunk=chunk,
        files=tuple(files),
        delivered=len(records),
        holes=chunk.end - chunk.start - len(records),
        dead_letters=len(parsed.reasons),
        hours=tuple(hours),
    )


def mended(chunk: Chunk, records: Records) -> Records:
    """The records with the chunk's fixes applied; those that a rule cannot mend are as they were. Raises NoRule."""
    if not chunk.fixes:
        return records
    values, rejected = list(records.values), dict(records.rejected)
    at = {offset: index for index, offset in enumerate(records.offsets)}
    for offset, name in chunk.fixes:
        index = at.get(offset)
        if index is None or index in rejected:
            continue
        if (value := rule(name).fix(chunk.topic, values[index])) is not None:
            values[index] = value
    return replace(records, values=values)


def _position(plan: Plan, chunk: Chunk, records: Records, index: np.ndarray) -> dict[str, pa.Array]:  # type: ignore[type-arg]
    """Columns that say where rows stand in the log; `index`: the record of each row."""
    count = len(index)
    arrivals = pa.array(np.array(records.arrivals_ms, dtype=np.int64)[index]).cast(pa.timestamp("ms"))
    return {
        "load_id": pa.repeat(plan.load_id, count),
        "slice_id": pa.repeat(chunk.slice_id, count),
        "topic": pa.repeat(chunk.topic, count),
        "partition": pa.repeat(pa.scalar(chunk.partition, pa.int64()), count),
        "offset": pa.array(np.array(records.offsets, dtype=np.int64)[index]),
        "arrival_ts": arrivals.cast(MICROSECONDS),
    }


def _positioned(plan: Plan, chunk: Chunk, records: Records, parsed: Parsed, name: str) -> pa.Table:
    table = parsed.tables[name]
    hour = pc.floor_temporal(table["event_ts"], unit="hour")
    columns = {"event_hour": hour, **_position(plan, chunk, records, parsed.events[name])}
    for column, values in columns.items():
        table = table.append_column(column, values)
    return table


def _dead_letters(plan: Plan, chunk: Chunk, records: Records, parsed: Parsed) -> pa.Table:
    index = np.array(sorted(parsed.reasons), dtype=np.int64)
    return pa.table(
        {
            **_position(plan, chunk, records, index),
            "reason": pa.array([parsed.reasons[int(at)] for at in index], pa.string()),
            "payload": pa.array([payload_text(records.values[at]) for at in index], pa.string()),
        }
    )
