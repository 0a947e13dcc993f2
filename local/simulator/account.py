"""The account: what was sent, event by event, for those who reconcile. What it knows never reaches a message.

A folder of Parquet files, one row a message: event_id, topic, partition, event_ts, send_ts, kind, label. A file appears
whole, so a reader sees no half row; `select * from 'FOLDER/*.parquet'` is the whole account.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np

from local.simulator.events import KINDS, LABELS, TOPICS, Events, Numbers

ROWS_A_FILE = 200_000


class Account:
    """Appends to a folder, which may hold the files of earlier runs. Used by one process at a time.

    run: names the files. A sending that is made again under its name replaces what it has written before."""

    def __init__(self, folder: Path, prefix: str = "", run: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._run = folder, run
        self._topics = [f"{prefix}{topic}" for topic in TOPICS]
        self._parts: list[tuple[Events, Numbers]] = []
        self._rows = 0

    def add(self, events: Events, partition: Numbers) -> None:
        """Notes messages and their partitions; writes a file when many have come together."""
        self._parts.append((replace(events, keys=[], values=[]), partition))
        self._rows += len(events)
        if self._rows >= ROWS_A_FILE:
            self.write()

    def write(self) -> None:
        """Writes what has been noted since the last file."""
        if not self._rows:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        def column(name: str) -> Numbers:
            return np.concatenate([getattr(events, name) for events, _ in self._parts])

        def named(name: str, values: list[str]) -> pa.DictionaryArray:
            return pa.DictionaryArray.from_arrays(pa.array(column(name).astype(np.int8)), pa.array(values))

        table = pa.table(
            {
                "event_id": pa.concat_arrays([pa.array(events.ids, pa.string()) for events, _ in self._parts]),
                "topic": named("topic", self._topics),
                "partition": np.concatenate([partition for _, partition in self._parts]).astype(np.int32),
                "event_ts": pa.array(column("event_ms")).cast(pa.timestamp("ms")),
                "send_ts": pa.array(column("send_ms")).cast(pa.timestamp("ms")),
                "kind": named("kind", list(KINDS)),
                "label": named("label", list(LABELS)),
            }
        )
        # Names sort by the time of writing; the random part keeps two runs apart.
        first = int(column("send_ms").min())
        path = self._folder / f"{first:015d}-{self._run or uuid.uuid4().hex[:8]}.parquet"
        temporary = path.with_suffix(".writing")
        pq.write_table(table, temporary, compression="lz4", use_dictionary=["topic", "kind", "label"])
        temporary.replace(path)
        self._parts, self._rows = [], 0
