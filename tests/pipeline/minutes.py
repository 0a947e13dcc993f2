"""Batches of minutes as the streaming job writes them: a Parquet file below the store and its notice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from include import storage
from include.functions.live_loader import load
from include.functions.live_loader.load import Notice
from include.functions.warehouse import Warehouse
from tests.stand_ins import Snowflake

MINUTE = datetime(2011, 1, 4, 10, 0)
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("minute_ts", pa.timestamp("us")),
        *((name, pa.string()) for name in ("country", "category", "channel")),
        ("orders", pa.int64()),
        ("units", pa.int64()),
        ("net_sales", pa.decimal128(18, 4)),
        *((name, pa.int64()) for name in ("refunds", "sessions", "views", "carts")),
        ("is_final", pa.bool_()),
        ("version", pa.int64()),
    ]
)
NOTHING = {
    **dict.fromkeys(("orders", "units", "refunds", "sessions", "views", "carts"), 0),
    "net_sales": Decimal(0),
    "is_final": False,
}
Row = dict[str, Any]


def sales(minute: datetime, country: str, units: int, **changes: Any) -> Row:
    """A row of kind sales: a piece costs 2.5."""
    key = {"kind": "sales", "minute_ts": minute, "country": country, "category": "Unknown", "channel": "web"}
    return {**NOTHING, **key, "units": units, "net_sales": Decimal("2.5") * units, **changes}


def activity(minute: datetime, country: str, orders: int, **changes: Any) -> Row:
    """A row of kind activity."""
    key = {"kind": "activity", "minute_ts": minute, "country": country, "category": "", "channel": "web"}
    return {**NOTHING, **key, "orders": orders, **changes}


def notice(store: str, batch_id: str, version: int, rows: int, **changes: Any) -> Notice:
    """changes: what it says else, as JSON."""
    at = MINUTE.replace(tzinfo=UTC).isoformat()
    said = {
        "batch_id": batch_id,
        "uri": f"{store}/live/batches/{batch_id}.parquet",
        "rows": rows,
        "version": version,
        "minutes": [at, at],
        "final_until": None,
        "events": 20_000,
        "late_to_stream": 3,
        "rejected": 1,
        "written_ts": at,
        "newest_arrival_ts": at,
    }
    return load.decode(json.dumps({**said, **changes}).encode())


def write(store: str, batch_id: str, version: int, rows: Sequence[Mapping[str, Any]], **changes: Any) -> Notice:
    """Writes a batch's file, all rows with this version; returns its notice."""
    table = pa.Table.from_pylist([{**row, "version": version} for row in rows], schema=SCHEMA)
    storage.write_table(f"{store}/live/batches/{batch_id}.parquet", table)
    return notice(store, batch_id, version, len(rows), **changes)


def connect(snowflake: Snowflake) -> Warehouse:
    """The warehouse as a function has it."""
    settings = {"account": "local", "user": "local", "password": "local", "host": "127.0.0.1", "protocol": "http"}
    return Warehouse({**settings, "port": snowflake.port, "database": "MADHATTER"}, "live_loader")


def deliver(warehouse: Warehouse, store: str, *notices: Notice) -> None:
    """Loads batches, one after the other."""
    for one in notices:
        warehouse.transaction(lambda session, one=one: load.load(session, store, one))  # type: ignore[misc]
