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
    """open: by minute, by event, (attempts, declined); total: by minute that is closed. next_minute: the first one that
    is not."""

    open: dict[int, dict[str, tuple[int, int]]]
    total: dict[int, tuple[int, int]]
    next_minute: int


class PlatformPayments(Rule):
    """Finds the minute from which the share of declined attempts, of all customers, is far above the usual: a processor
    that is down, or cards that are tried out. Minutes are judged when they are complete. One signal an episode."""

    NAME = "platform_payments"
    KINDS = ("failed_payments",)
    ROW = OrderRow
    HORIZON_S = 60 * (PLATFORM.window_min + PLATFORM.quiet_min + 1) + (LATENESS_MS + AHEAD_MS) // 1000

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._state = _State({}, {}, 0)

    def keys(self, row: OrderRow) -> Iterable[str]:
        return ("platform",) if row.payments and row.order_type in facts.BUYING else ()

    def observe(self, key: str, row: OrderRow) -> list[Found]:  # noqa: ARG002
        minute = row.event_ms // MINUTE_MS
        if minute >= self._state.next_minute:
            self._state.open.setdefault(minute, {})[row.event_id] = len(row.payments), facts.declined(row)
        return []

    def advance(self, watermark_ms: int) -> list[Found]:
        state = self._state
        past_last = (watermark_ms - LATENESS_MS) // MINUTE_MS
        found: list[Found] = []
        for minute in sorted(minute for minute in state.open if minute < past_last):
            counts = state.open.pop(minute).values()
            state.total[minute] = sum(n for n, _ in counts), sum(n for _, n in counts)
            # Without a payment in the minute itself nothing begins in it.
            if self._holds(minute) and not any(self._holds(minute - n) for n in range(1, PLATFORM.quiet_min + 1)):
                found.append(self._found(minute))
        state.next_minute = max(state.next_minute, past_last)
        return found

    def _counts(self, minute: int) -> tuple[int, int]:
        """(attempts, declined) of the window that ends with a minute."""
        window = [self._state.total.get(minute - n, (0, 0)) for n in range(PLATFORM.window_min)]
        return sum(n for n, _ in window), sum(n for _, n in window)

    def _holds(self, minute: int) -> bool:
        attempts, declined = self._counts(minute)
        return (
            attempts >= PLATFORM.least_attempts
            and declined > PLATFORM.least_share * attempts
            and poisson_bound(declined, PLATFORM.usual_share * attempts) < PLATFORM.chance
        )

    def _found(self, minute: int) -> Found:
        attempts, declined = self._counts(minute)
        end_ms = (minute + 1) * MINUTE_MS
        features = {
            "window_min": PLATFORM.window_min,
            "attempts": attempts,
            "declined": declined,
            "share": round(declined / attempts, 4),
            "usual_share": PLATFORM.usual_share,
        }
        decided_ms = end_ms + LATENESS_MS
        return Found("failed_payments", "platform", minute_name(minute), end_ms, decided_ms, features, decided_ms)

    def forget(self, before_ms: int) -> None:
        for minute in [minute for minute in self._state.total if (minute + 1) * MINUTE_MS <= before_ms]:
            del self._state.total[minute]

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def load(self, state: bytes) -> None:
        self._state = msgspec.msgpack.decode(state, type=_State)
