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
# What the account says must become of each message: its nth row of a partition is the partition's nth message. A second
# copy whose first one was sent before all this is the first one here.
EXPECTED = """
create table expected as
with placed as (
    select *, row_number() over (partition by topic, partition order by filename, file_row_number) - 1 as "offset",
        kind in ('normal', 'late', 'skewed', 'duplicate') as is_valid
    from read_parquet(?, filename = true, file_row_number = true)
),
ranked as (
    select *, row_number() over (
        partition by topic, event_id, event_ts::date, is_valid order by partition, "offset"
    ) as copy
    from placed
)
select topic, partition, "offset", kind, label, send_ts, event_ts as noted_ts,
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
    """A log, and perhaps its sender's account, to be compared with what a platform has made of it."""

    def __init__(self, log: Path, account: Path | None = None) -> None:
        self.db = duckdb.connect()
        self.db.execute("set timezone = 'UTC'")
        self.db.create_function("is_utf8", is_utf8, ["BLOB"], "BOOLEAN")  # type: ignore[arg-type]
        self.db.execute(MESSAGES, [str(log)])
        if account is not None:
            self.db.execute(EXPECTED, [str(account / "*.parquet")])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a statement over message, expected, event, dead and covered."""
        return self.db.execute(sql).fetchall()

    def load(self, name: str, rows: list[dict[str, Any]]) -> None:
        """A table from a platform's rows."""
        self.db.register(f"{name}_rows", pa.Table.from_pylist(rows))
        self.db.execute(f"create or replace table {name} as select * from {name}_rows")
