"""Many orders of one customer, or with one card, within minutes."""

from __future__ import annotations

from collections.abc import Iterable

from include.beam.rules import facts, thresholds
from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import Found
from include.beam.rules.windows import WindowRule, horizon_s

LIMITS = thresholds.read().order_velocity


class OrderVelocity(WindowRule):
    """Finds each order that is more than the `most_orders`-th of its customer, or card, in the window up to it. Returns
    are counted apart."""

    NAME = "order_velocity"
    KINDS = ("order_velocity",)
    WINDOW_S = LIMITS.window_s
    HORIZON_S = horizon_s(LIMITS.window_s)

    def keys(self, row: OrderRow) -> Iterable[str]:
        return facts.parties(row) if row.order_type in facts.TRADE else ()

    def observe(self, key: str, row: OrderRow) -> list[Found]:
        return [
            facts.found("order_velocity", key, order, row, self.snapshot, window, most_orders=LIMITS.most_orders)
            for order, window in self.windows.add(key, row, _is_many)
        ]


def _is_many(order: OrderRow, window: list[OrderRow]) -> bool:
    bought = sum(row.order_type in facts.BUYING for row in window)
    return order.order_type in facts.BUYING and bought > LIMITS.most_orders
