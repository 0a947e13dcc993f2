"""What must be in the warehouse, from the log and the sender's account alone: read by a plain consumer, computed by
DuckDB, with nothing of the platform's own code."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tests.stand_ins import records

# One row a message; event is null where it is no JSON.
MESSAGES = """
create table message as
with text as (
    select * replace (case when is_utf8(value) then decode(value) end as value) from read_parquet(?)
),
parsed as (select * exclude (value), try_cast(value as json) as event from text)
select *, event ->> 'event_id' as event_id, try_cast(event ->> 'event_ts' as timestamptz)::timestamp as event_ts
from parsed
"""
# What committed slices cover.
CLAIM = """
create table claim (
    slice_id text, commit_no bigint, topic text, partition int, start_offset bigint, end_offset bigint
)
"""
# What the account says must become of each message: its nth row of a partition is the partition's nth message. Of an
# event's copies that one is published whose slice was committed first, in it the first in the log. A second copy whose
# first one was sent before all this is the first one here.
EXPECTED = """
create table expected as
with placed as (
    select *, row_number() over (partition by topic, partition order by filename, file_row_number) - 1 as "offset",
        kind in ('normal', 'late', 'skewed', 'duplicate') as is_valid
    from read_parquet(?, filename = true, file_row_number = true)
),
ranked as (
    select placed.*, slice_id, row_number() over (
        partition by placed.topic, event_id, event_ts::date, is_valid
        order by commit_no nulls last, placed.partition, "offset"
    ) as copy
    from placed left join claim on placed.topic = claim.topic and placed.partition = claim.partition
        and "offset" >= start_offset and "offset" < end_offset
)
select topic, partition, "offset", kind, label, send_ts, event_ts as noted_ts, slice_id,
    case when not is_valid then 'dead letter' when copy = 1 then 'published' else 'duplicate' end as outcome
from ranked
"""


def read_log(bootstrap: str, topics: list[str], path: Path) -> Path:
    """Writes every record of the topics to a Parquet file: topic, partition, offset, arrival_ts, value."""

    def arrival(ms: int) -> datetime:
        return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)

    rows = [
        (m.topic(), m.partition(), m.offset(), arrival(m.timestamp()[1]), m.value() or b"")
        for m in records(bootstrap, *topics)
    ]
    names = ("topic", "partition", "offset", "arrival_ts", "value")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    return path


def is_utf8(value: bytes) -> bool:
    """Whether bytes are text."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class Truth:
    """A log, and perhaps its sender's account, to be compared with what a platform has made of it. claims: what
    committed slices cover, as in CLAIM; without them the log's order decides between copies."""

    def __init__(self, log: Path, account: Path | None = None, claims: list[dict[str, Any]] | None = None) -> None:
        self.db = duckdb.connect()
        self.db.execute("set timezone = 'UTC'")
        self.db.create_function("is_utf8", is_utf8, ["BLOB"], "BOOLEAN")  # type: ignore[arg-type]
        self.db.execute(MESSAGES, [str(log)])
        self.db.execute(CLAIM)
        if claims:
            self.load("committed", claims)
            self.db.execute("insert into claim by name from committed")
        if account is not None:
            self.db.execute(EXPECTED, [str(account / "*.parquet")])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a statement over message, claim, expected and what was loaded."""
        return self.db.execute(sql).fetchall()

    def load(self, name: str, rows: list[dict[str, Any]]) -> None:
        """A table from a platform's rows."""
        self.db.register(f"{name}_rows", pa.Table.from_pylist(rows))
        self.db.execute(f"create or replace table {name} as select * from {name}_rows")
