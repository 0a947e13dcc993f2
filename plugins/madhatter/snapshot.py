"""The snapshot: what the streaming job knows of customers, products and shelves when it begins, read once.

A folder <store>/live/snapshots/<time>/ of three Parquet files and snapshot.json, which is written last: without it the
folder does not count. What is in them is of the size of dimensions, a row a customer, product or shelf and never one an
event, so a worker may carry it; MOST_ROWS of each at most.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from madhatter.warehouse import Warehouse

log = logging.getLogger(__name__)

MOST_ROWS = 1_000_000
KEPT = 3
NAME = "%Y%m%dt%H%M%S%fz"
COMPLETE = "snapshot.json"
TOPIC = "inventory.movements"


def take(warehouse: Warehouse, store: str, now: datetime) -> str:
    """Reads the warehouse in one transaction and writes a snapshot; returns the URI of its snapshot.json, {"taken_ts",
    "inventory_offsets": {topic: {partition: end of what `stock` includes}}, "files": {name: file}}. An empty warehouse
    gives empty files. Older snapshots than the newest KEPT are removed."""
    from include import storage

    storage.check_reachable(store)
    with warehouse.transaction():
        read = {name: warehouse.table_of_file(f"snapshot/{name}.sql", most=MOST_ROWS) for name in _schemas()}
    shelves = read["shelf"]
    ends = {
        str(row["partition"]): int(row["end_offset"])
        for row in shelves.filter(shelves["partition"].is_valid()).to_pylist()
    }
    read["shelf"] = shelves.filter(shelves["warehouse_id"].is_valid())
    uri = storage.join(folder(store), now.astimezone(UTC).strftime(NAME))
    written = {}
    for name, schema in _schemas().items():
        table = read[name].select(schema.names).cast(schema)
        if table.num_rows == MOST_ROWS:
            log.warning("the snapshot has %s rows of %s, and no more: the rest is unknown to live", MOST_ROWS, name)
        written[name] = f"{name}.parquet"
        storage.write_table(storage.join(uri, written[name]), table)
    complete = storage.join(uri, COMPLETE)
    taken = {"taken_ts": now.astimezone(UTC).isoformat(), "inventory_offsets": {TOPIC: ends}, "files": written}
    storage.write_json(complete, taken)
    _remove_older(store)
    return complete


def newest(store: str) -> str | None:
    """The URI of the newest whole snapshot's snapshot.json."""
    found = _whole(store)
    return found[-1] if found else None


def folder(store: str) -> str:
    """Where the snapshots are."""
    from include import storage

    return storage.join(store, "live", "snapshots")


def _schemas() -> dict[str, pa.Schema]:
    """File -> its columns."""
    import pyarrow as pa

    text, whole, amount = pa.string(), pa.int64(), pa.float64()
    return {
        "customer": pa.schema(
            {"customer_id": text, "orders": whole, "mean_amount": amount, "max_amount": amount}  # type: ignore[arg-type]
        ),
        "product": pa.schema({"product_id": text, "category": text}),  # type: ignore[arg-type]
        "shelf": pa.schema(
            {"warehouse_id": text, "product_id": text, "stock": whole, "reorder_point": whole}  # type: ignore[arg-type]
        ),
    }


def _whole(store: str) -> list[str]:
    """URIs of the snapshot.json of all whole snapshots, oldest first."""
    from include import storage

    root = folder(store)
    return sorted(
        storage.join(root, found.path) for found in storage.files(root) if found.path.endswith(f"/{COMPLETE}")
    )


def _remove_older(store: str) -> None:
    """Keeps the newest KEPT and what is being written now; removes older ones and what a killed task left of them."""
    from include import storage

    kept = _whole(store)[-KEPT:]
    oldest = kept[0].rsplit("/", 2)[1] if kept else ""
    root = folder(store)
    storage.remove_below(root, [found.path for found in storage.files(root) if found.path < oldest])
