"""What a customer with little history sends back, and buys after it: the way of who abuses refunds."""

from __future__ import annotations

from collections.abc import Iterable

from include.beam.rules import facts, thresholds
from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import Found
from include.beam.rules.windows import WindowRule, horizon_s

LIMITS = thresholds.read().early_return


class EarlyReturn(WindowRule):
    """Finds each return of an account with fewer than `known_after` sales in the snapshot, and what it buys within the
    window after one. The snapshot stands for the account's age, as hours of state are not to be had. Guests have no
    account. Without a snapshot all accounts would be new: it is silent."""

    NAME = "early_return"
    KINDS = ("early_return",)
    WINDOW_S = LIMITS.window_s
    HORIZON_S = horizon_s(LIMITS.window_s)

    def keys(self, row: OrderRow) -> Iterable[str]:
        if self.snapshot is None or row.customer_id is None or row.order_type not in facts.TRADE:
            return ()
        history = self.snapshot.customers.get(row.customer_id)
        return () if history and history.orders >= LIMITS.known_after else (f"customer:{row.customer_id}",)

    def observe(self, key: str, row: OrderRow) -> list[Found]:
        return [
            facts.found(
                "early_return", key, order, row, self.snapshot, window, is_whole_basket=_is_whole(order, window)
            )
            for order, window in self.windows.add(key, row, _is_early)
        ]


def _is_early(_: OrderRow, window: list[OrderRow]) -> bool:
    return any(row.order_type == "return" for row in window)


def _is_whole(order: OrderRow, window: list[OrderRow]) -> bool | None:
    """Whether a return takes back all that a sale of the window came to; None where there is no such sale to see."""
    sales = [row.amount for row in window if row.order_type == "sale"]
    return -order.amount in sales if sales and order.order_type == "return" else None
