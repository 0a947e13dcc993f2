"""A DuckDB result as the connector reads it: rowtype, and Arrow with Snowflake's representation of each type."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from fakesnow import arrow, rowtype

# DuckDB types that fakesnow does not name.
rowtype.duckdb_to_sf_type.update(
    {
        "NULL": "text", "TINYINT": "fixed", "SMALLINT": "fixed", "UTINYINT": "fixed", "USMALLINT": "fixed",
        "UINTEGER": "fixed", "UHUGEINT": "fixed", "FLOAT": "real", "UUID": "text", "TIMESTAMP_S": "timestamp_ntz",
        "TIMESTAMP_MS": "timestamp_ntz",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """columns: (name, DuckDB type) in order. affected: rows changed by DML, else None."""

    table: pa.Table
    columns: Sequence[tuple[str, str]]
    type_id: int
    affected: int | None = None


def status(words: str, type_id: int) -> Result:
    """The one-row answer of a statement that returns no data."""
    return Result(pa.table({"status": [words]}), [("status", "VARCHAR")], type_id)


def payload(result: Result) -> dict[str, Any]:
    """The `data` part of a query response for one result."""
    described = rowtype.describe_as_rowtype([(name, _known(kind), *[None] * 4) for name, kind in result.columns])
    if result.affected is not None:
        # The connector adds up the first row's columns for cursor.rowcount: it reads DML results as JSON.
        rows = zip(*(column.to_pylist() for column in result.table.columns))
        body: dict[str, Any] = {"queryResultFormat": "json", "rowset": [[str(v) for v in row] for row in rows]}
    else:
        body = {
            "queryResultFormat": "arrow",
            "rowsetBase64": b64encode(arrow.to_ipc(arrow.to_sf(_narrow(result.table), described))).decode(),
        }
    return {
        "rowtype": described,
        "total": result.table.num_rows,
        "returned": result.table.num_rows,
        "statementTypeId": result.type_id,
        **body,
    }


def _known(kind: str) -> str:
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        return "JSON"
    return "VARCHAR" if kind.startswith("ENUM") else kind


def _narrow(table: pa.Table) -> pa.Table:
    """Whole numbers as int64 where they fit, as Snowflake sends them: the connector then makes ints of them."""
    arrays = []
    for column in table.columns:
        if pa.types.is_decimal(column.type) and column.type.scale == 0:
            column = _whole(column)
        elif pa.types.is_floating(column.type) and column.type != pa.float64():
            column = column.cast(pa.float64())
        elif pa.types.is_integer(column.type) and column.type not in (pa.int64(), pa.uint64()):
            column = column.cast(pa.int64())
        elif pa.types.is_timestamp(column.type) and column.type.unit != "us":
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        elif pa.types.is_nested(column.type):
            column = _as_json(column)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, names=table.column_names)


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column  # beyond 64 bits: Snowflake sends a decimal too


def _as_json(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([None if v is None else json.dumps(v, default=str) for v in column.to_pylist()])])


def _struct(timestamps: pa.Array | pa.ChunkedArray) -> pa.Array:
    """fakesnow's timestamp struct, but NULL where the timestamp is: without a mask the connector reads 1970-01-01."""
    if isinstance(timestamps, pa.ChunkedArray):
        timestamps = timestamps.combine_chunks()
    plain = _timestamp_to_sf_struct(timestamps)
    fields = [pc.fill_null(child, 0) for child in plain.flatten()]
    return pa.StructArray.from_arrays(fields, fields=list(plain.type), mask=timestamps.is_null())


_timestamp_to_sf_struct = arrow.timestamp_to_sf_struct
arrow.timestamp_to_sf_struct = _struct
