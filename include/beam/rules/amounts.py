"""An order that is dear: for its customer, or, where little is known of them, for the platform."""

from __future__ import annotations

from collections.abc import Iterable

from include.beam.rules import facts, thresholds
from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import Found, Rule
from include.beam.snapshot import Snapshot

LIMITS = thresholds.read().unusual_amount


class UnusualAmount(Rule):
    """Finds an order of a customer with a history that is far above their mean and above their dearest; one of a guest,
    or of a customer with little history, that is dearer than a share of all sales: of a few orders no mean says what is
    usual, and whose account is new is who has a reason to hide. Without a snapshot nothing is usual: it is silent."""

    NAME = "unusual_amount"
    KINDS = ("unusual_amount",)
    ROW = OrderRow
    HORIZON_S = 0  # each order by itself

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._usual = snapshot.amount_at(LIMITS.share_of_sales) if snapshot else None

    def keys(self, row: OrderRow) -> Iterable[str]:
        if row.order_type not in facts.BUYING:
            return ()
        return (f"customer:{row.customer_id}" if row.customer_id else f"order:{row.order_id}",)

    def observe(self, key: str, row: OrderRow) -> list[Found]:
        history = self.snapshot.customers.get(row.customer_id) if self.snapshot and row.customer_id else None
        if history and history.orders >= LIMITS.known_after:
            basis, limit = "customer", max(LIMITS.times_the_mean * history.mean_amount, history.max_amount)
        elif self._usual is not None:
            basis, limit = "platform", self._usual
        else:
            return []
        if facts.pounds(row.amount) <= limit:
            return []
        return [facts.found("unusual_amount", key, row, row, self.snapshot, [row], basis=basis, limit=round(limit, 2))]

    def dump(self) -> bytes:
        return b""

    def load(self, state: bytes) -> None:
        """There is no state."""
