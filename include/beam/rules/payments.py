"""Payments that were declined: of a customer, of a card, of all customers together."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from include.beam.rules import facts, thresholds
from include.beam.rules.chance import MINUTE_MS, minute_name, poisson_bound
from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import AHEAD_MS, LATENESS_MS, Found, Rule
from include.beam.rules.windows import WindowRule, horizon_s
from include.beam.snapshot import Snapshot

LIMITS = thresholds.read().failed_payments
PLATFORM = LIMITS.platform


class FailedPayments(WindowRule):
    """Finds each order, accepted or not, in whose window more than `most_declined` attempts to pay of its customer, or
    with its card, were declined."""

    NAME = "failed_payments"
    KINDS = ("failed_payments",)
    WINDOW_S = LIMITS.window_s
    HORIZON_S = horizon_s(LIMITS.window_s)

    def keys(self, row: OrderRow) -> Iterable[str]:
        return facts.parties(row) if row.order_type in facts.BUYING else ()

    def observe(self, key: str, row: OrderRow) -> list[Found]:
        card = key.removeprefix("card:") if key.startswith("card:") else None

        def declined(window: list[OrderRow]) -> int:
            return sum(facts.declined(each, card) for each in window)

        def is_many(_: OrderRow, window: list[OrderRow]) -> bool:
            return declined(window) > LIMITS.most_declined

        return [
            facts.found("failed_payments", key, order, row, self.snapshot, window, party_declined=declined(window))
            for order, window in self.windows.add(key, row, is_many)
        ]


class _State(msgspec.Struct, array_like=True):
    """orders: by minute, by event, (payer, whether an attempt was declined). next_minute: the first
    that is not judged."""

    orders: dict[int, dict[str, tuple[str, bool]]]
    next_minute: int


class PlatformPayments(Rule):
    """Finds the minute from which the share of payers with a declined attempt is far above the usual: a processor that
    is down, or cards that are tried out. Payers count, not attempts: one thief is no outage. Minutes are judged when
    they are complete. One signal an episode."""

    NAME = "platform_payments"
    KINDS = ("failed_payments",)
    ROW = OrderRow
    HORIZON_S = 60 * (PLATFORM.window_min + PLATFORM.quiet_min + 1) + (LATENESS_MS + AHEAD_MS) // 1000

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._state = _State({}, 0)

    def keys(self, row: OrderRow) -> Iterable[str]:
        return ("platform",) if row.payments and row.order_type in facts.BUYING else ()

    def observe(self, key: str, row: OrderRow) -> list[Found]:  # noqa: ARG002
        minute = row.event_ms // MINUTE_MS
        if minute >= self._state.next_minute:
            # A guest goes by the card, where there is one.
            payer = row.customer_id or next(iter(facts.cards(row)), row.order_id)
            self._state.orders.setdefault(minute, {})[row.event_id] = payer, facts.declined(row) > 0
        return []

    def advance(self, watermark_ms: int) -> list[Found]:
        state = self._state
        past_last = (watermark_ms - LATENESS_MS) // MINUTE_MS
        # Without a payment in the minute itself nothing begins in it.
        found = [
            self._found(minute)
            for minute in sorted(minute for minute in state.orders if state.next_minute <= minute < past_last)
            if self._holds(minute) and not any(self._holds(minute - n) for n in range(1, PLATFORM.quiet_min + 1))
        ]
        state.next_minute = max(state.next_minute, past_last)
        return found

    def _counts(self, minute: int) -> tuple[int, int]:
        """(payers, those with a declined attempt) of the window that ends with a minute."""
        orders = self._state.orders
        window = [each for n in range(PLATFORM.window_min) for each in orders.get(minute - n, {}).values()]
        return len({payer for payer, _ in window}), len({payer for payer, is_declined in window if is_declined})

    def _holds(self, minute: int) -> bool:
        payers, declined = self._counts(minute)
        return (
            payers >= PLATFORM.least_payers
            and declined > PLATFORM.least_share * payers
            and poisson_bound(declined, PLATFORM.usual_share * payers) < PLATFORM.chance
        )

    def _found(self, minute: int) -> Found:
        payers, declined = self._counts(minute)
        end_ms = (minute + 1) * MINUTE_MS
        features = {
            "window_min": PLATFORM.window_min,
            "payers": payers,
            "payers_declined": declined,
            "share": round(declined / payers, 4),
            "usual_share": PLATFORM.usual_share,
        }
        decided_ms = end_ms + LATENESS_MS
        return Found("failed_payments", "platform", minute_name(minute), end_ms, decided_ms, features, decided_ms)

    def forget(self, before_ms: int) -> None:
        for minute in [minute for minute in self._state.orders if (minute + 1) * MINUTE_MS <= before_ms]:
            del self._state.orders[minute]

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def load(self, state: bytes) -> None:
        self._state = msgspec.msgpack.decode(state, type=_State)
