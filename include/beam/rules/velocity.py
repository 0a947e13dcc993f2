"""Many orders of one customer, or with one card, within minutes."""

from __future__ import annotations

from collections.abc import Iterable

from include.beam.rules import facts, thresholds
from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import AHEAD_MS, LATENESS_MS, Found, Rule
from include.beam.rules.windows import Windows
from include.beam.snapshot import Snapshot

LIMITS = thresholds.read().order_velocity


class OrderVelocity(Rule):
    """Finds each order that is more than the `most_orders`-th of its customer, or card, in the window up to it."""

    NAME = "order_velocity"
    KINDS = ("order_velocity",)
    ROW = OrderRow
    HORIZON_S = LIMITS.window_s + (LATENESS_MS + AHEAD_MS) // 1000

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._windows = Windows(LIMITS.window_s)

    def keys(self, row: OrderRow) -> Iterable[str]:
        return facts.parties(row) if row.order_type in facts.BUYING else ()

    def observe(self, key: str, row: OrderRow) -> list[Found]:
        return [
            Found(
                "order_velocity",
                key,
                order.event_id,
                order.event_ms,
                order.arrival_ms,
                facts.of_order(order, self.snapshot) | facts.of_window(window) | {"most_orders": LIMITS.most_orders},
                row.arrival_ms,
            )
            for order, window in self._windows.add(key, row)
            # Of an order that was there before: found just now, when its window had one less.
            if len(window) > LIMITS.most_orders and (order is row or len(window) == LIMITS.most_orders + 1)
        ]

    def forget(self, before_ms: int) -> None:
        self._windows.forget(before_ms)

    def dump(self) -> bytes:
        return self._windows.dump()

    def load(self, state: bytes) -> None:
        self._windows.load(state)
