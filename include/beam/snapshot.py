"""What the warehouse knew when the streaming job was launched: customers' histories, categories, shelves.

A folder with snapshot.json, {"taken_ts": ISO 8601, "inventory_offsets": {topic: {partition: end offset}}}, and the
Parquet files in FILES. A missing file is a table without rows: on a young platform the rules that need it find nothing.
"""

from __future__ import annotations

import bisect
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from include import storage

FILES = {
    "customer": ("customer_id", "orders", "mean_amount", "max_amount"),
    "product": ("product_id", "category"),
    "shelf": ("warehouse_id", "product_id", "stock", "reorder_point"),
}


class SnapshotError(ValueError):
    """A snapshot that cannot be used: which file, what is wrong with it, what to do."""


class History(NamedTuple):
    """A customer's sales of the last year. Amounts in pounds."""

    orders: int
    mean_amount: float
    max_amount: float


class Shelf(NamedTuple):
    """Pieces of a product in a warehouse. reorder_point: stock at which to order, None where it is not known."""

    stock: int
    reorder_point: int | None


@dataclass(frozen=True)
class Snapshot:
    """taken_ts: UTC. customers: by id; categories: by product; shelves: by (warehouse, product). inventory_offsets: by
    partition of inventory.movements, the first offset that `shelves` does not include."""

    taken_ts: datetime
    customers: dict[str, History] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    shelves: dict[tuple[str, str], Shelf] = field(default_factory=dict)
    inventory_offsets: dict[int, int] = field(default_factory=dict)

    @cached_property
    def _amounts(self) -> tuple[list[float], list[int]]:
        """Customers' mean amounts, ascending, and the sales of all up to each."""
        amounts, running, total = [], [], 0
        for history in sorted(self.customers.values(), key=lambda history: history.mean_amount):
            total += history.orders
            amounts.append(history.mean_amount)
            running.append(total)
        return amounts, running

    def amount_at(self, share: float) -> float | None:
        """The amount below which this share of all sales lies, in pounds, each taken at its customer's mean; None where
        nobody has bought anything."""
        amounts, running = self._amounts
        if not running or not running[-1]:
            return None
        return amounts[min(bisect.bisect_left(running, share * running[-1]), len(amounts) - 1)]


@cache
def read(uri: str) -> Snapshot:
    """The snapshot whose snapshot.json is at a URI, read once a process. Raises FileNotFoundError naming what is
    missing, SnapshotError."""
    head = storage.read_json(uri)
    folder = uri.rsplit("/", 1)[0]
    try:
        taken_ts = datetime.fromisoformat(head["taken_ts"])
        offsets = {int(p): int(end) for p, end in (head.get("inventory_offsets") or {}).get(_MOVEMENTS, {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"{uri}: {error!r}: no snapshot.json of this version; launch the job anew") from error
    customers, products, shelves = (_table(storage.join(folder, f"{name}.parquet"), name) for name in FILES)
    return Snapshot(
        taken_ts=taken_ts if taken_ts.tzinfo else taken_ts.replace(tzinfo=UTC),
        customers={str(key): History(int(n), float(mean), float(most)) for key, n, mean, most in customers if n},
        categories={str(key): str(category) for key, category in products if category is not None},
        shelves={
            (str(warehouse), str(product)): Shelf(int(stock), None if point is None else int(point))
            for warehouse, product, stock, point in shelves
        },
        inventory_offsets=offsets,
    )


_MOVEMENTS = "inventory.movements"


def _table(uri: str, name: str) -> list[tuple[Any, ...]]:
    """The columns' values, row by row."""
    if not storage.exists(uri):
        return []
    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(uri)))
    except pa.ArrowException as error:
        raise SnapshotError(f"{uri}: not readable as Parquet ({error}): launch the job anew") from error
    if missing := set(FILES[name]) - set(table.column_names):
        raise SnapshotError(f"{uri}: column {', '.join(sorted(missing))} is missing: launch the job anew")
    return list(zip(*(table[column].to_pylist() for column in FILES[name])))
