"""Stock by shelf, and when it falls to its reorder point or below nothing.

Booked as the marts do (include/sql/marts/hour/stock_hourly.sql): the last count by event time, of counts at one moment
the last in the log, and every movement after it; a transfer is two movements, each booked in its own warehouse. Late
movements count like others, for stock has no minute that ends. What the marts know and this does not: a second copy, or
a count, that comes more than `remembered_s` after the first, or its time. Such a copy is booked again, such a count is
left out. The next snapshot sets both right.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from include.beam.rules import thresholds
from include.beam.rules.rows import MovementRow
from include.beam.rules.rule import Found, Rule
from include.beam.snapshot import Snapshot

LIMITS = thresholds.read().low_stock
FINE, LOW, NEGATIVE = range(3)
_LEVELS = ("fine", "low", "negative")
_NEVER = -(2**62)


class _Booked(msgspec.Struct, array_like=True, gc=False):
    """A movement that is remembered."""

    arrival_ms: int
    event_ms: int
    event_id: str
    quantity: int  # 0 of a count


class _Shelf(msgspec.Struct, array_like=True):
    """stock: None until it is known. counted_ms: event time of the last count."""

    stock: int | None
    reorder_point: int | None
    level: int
    counted_ms: int = _NEVER
    recent: list[_Booked] = []


class LowStock(Rule):
    """Finds the movement that takes a shelf to its reorder point or below (as marts.stock_cover proposes to order), and
    the one that takes it below nothing. Again only once the stock has been above. Without a snapshot it is silent."""

    NAME = "low_stock"
    KINDS = ("low_stock",)
    ROW = MovementRow
    # Of a second copy; the stock itself goes back to the snapshot's offsets.
    HORIZON_S = LIMITS.remembered_s
    TAKES_LATE = True

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._shelves: dict[str, _Shelf] = {}

    def keys(self, row: MovementRow) -> Iterable[str]:
        """None for movements that the snapshot's stock includes."""
        if self.snapshot is None or row.offset < self.snapshot.inventory_offsets.get(row.partition, 0):
            return ()
        return (f"shelf:{row.warehouse_id}/{row.product_id}",)

    def observe(self, key: str, row: MovementRow) -> list[Found]:
        shelf = self._shelves.get(key) or self._new(key, row)
        since_ms = row.arrival_ms - LIMITS.remembered_s * 1000
        if any(booked.event_id == row.event_id and booked.arrival_ms >= since_ms for booked in shelf.recent):
            return []
        is_count = row.movement_type == "count"
        quantity = 0 if is_count else row.quantity
        shelf.recent.append(_Booked(row.arrival_ms, row.event_ms, row.event_id, quantity))
        before = shelf.stock
        if is_count:
            if row.event_ms < max(shelf.counted_ms, since_ms):
                return []
            later = (b.quantity for b in shelf.recent if b.event_ms > row.event_ms and b.arrival_ms >= since_ms)
            shelf.stock, shelf.counted_ms = row.quantity + sum(later), row.event_ms
        elif before is not None and row.event_ms > shelf.counted_ms:
            shelf.stock = before + quantity
        if shelf.stock is None:
            return []
        was, shelf.level = shelf.level, _level(shelf.stock, shelf.reorder_point)
        if shelf.level <= was:
            return []
        features = {
            "warehouse_id": row.warehouse_id,
            "product_id": row.product_id,
            "level": _LEVELS[shelf.level],
            "stock": shelf.stock,
            "stock_before": before,
            "reorder_point": shelf.reorder_point,
            "movement_type": row.movement_type,
            "quantity": row.quantity,
            "other_warehouse_id": row.other_warehouse_id,
        }
        return [Found("low_stock", key, row.event_id, row.event_ms, row.arrival_ms, features, row.arrival_ms)]

    def stock(self, key: str) -> int | None:
        """Pieces on a shelf that has moved; None where it is not known."""
        return self._shelves[key].stock

    def _new(self, key: str, row: MovementRow) -> _Shelf:
        """A shelf as the snapshot has it; of others the stock is not known before their first count."""
        assert self.snapshot is not None
        known = self.snapshot.shelves.get((row.warehouse_id, row.product_id))
        shelf = _Shelf(None, None, FINE, recent=[])
        if known:
            level = _level(known.stock, known.reorder_point)
            shelf = _Shelf(known.stock, known.reorder_point, level, recent=[])
        self._shelves[key] = shelf
        return shelf

    def forget(self, before_ms: int) -> None:
        for shelf in self._shelves.values():
            if shelf.recent and shelf.recent[0].arrival_ms < before_ms:
                shelf.recent = [booked for booked in shelf.recent if booked.arrival_ms >= before_ms]

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._shelves)

    def load(self, state: bytes) -> None:
        self._shelves = msgspec.msgpack.decode(state, type=dict[str, _Shelf])


def _level(stock: int, reorder_point: int | None) -> int:
    """A reorder point of 0 is that of a product that does not sell."""
    if stock < 0:
        return NEGATIVE
    return LOW if reorder_point and stock <= reorder_point else FINE
