"""Traffic or sales that fall from one minute to the next."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from include.beam.rules import thresholds
from include.beam.rules.chance import MINUTE_MS, minute_name, poisson_bound
from include.beam.rules.rows import MinuteRow
from include.beam.rules.rule import LATENESS_MS, Found, Rule
from include.beam.snapshot import Snapshot

LIMITS = thresholds.read().drop
KEPT = LIMITS.window_min + LIMITS.base_min + LIMITS.quiet_min  # minutes that are remembered, from the newest on
_KINDS = {"traffic_drop": 2, "sales_drop": 1}  # the field of a MinuteRow


class Drop(Rule):
    """Finds the minute with which the last final minutes have far less than those before let expect, where there is
    enough to expect. Minutes come in order; one that is missing between two had nothing. One signal an episode."""

    NAME = "drop"
    KINDS = ("traffic_drop", "sales_drop")
    ROW = MinuteRow
    HORIZON_S = 60 * (KEPT + 1)

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._since: int | None = None  # the first minute that was ever seen
        self._minutes: dict[int, MinuteRow] = {}

    def keys(self, row: MinuteRow) -> Iterable[str]:  # noqa: ARG002
        return ("platform",)

    def observe(self, key: str, row: MinuteRow) -> list[Found]:
        last, minute = max(self._minutes, default=None), row.minute_ms // MINUTE_MS
        if last is not None and minute <= last:
            return []
        if self._since is None:
            self._since = minute
        self._minutes[minute] = row
        first = minute if last is None else max(last + 1, minute - LIMITS.base_min)
        found = [
            self._found(kind, key, each)
            for each in range(first, minute + 1)
            for kind in self.KINDS
            if self._holds(kind, each) and not any(self._holds(kind, each - n) for n in range(1, LIMITS.quiet_min + 1))
        ]
        self._minutes = {each: known for each, known in self._minutes.items() if each > minute - KEPT}
        return found

    def _counts(self, kind: str, minute: int) -> tuple[int, float] | None:
        """(what there was in the window that ends with a minute, what was expected); None where too little is known."""
        past_base = minute - LIMITS.window_min + 1
        if self._since is None or self._since > past_base - LIMITS.base_min:
            return None
        at = _KINDS[kind]
        none = MinuteRow(0, 0, 0)
        counts = [self._minutes.get(m, none)[at] for m in range(past_base - LIMITS.base_min, minute + 1)]
        return sum(counts[LIMITS.base_min :]), sum(counts[: LIMITS.base_min]) * LIMITS.window_min / LIMITS.base_min

    def _holds(self, kind: str, minute: int) -> bool:
        counts = self._counts(kind, minute)
        if counts is None:
            return False
        count, expected = counts
        return (
            expected >= LIMITS.least_expected
            and count < LIMITS.most_share * expected
            and poisson_bound(count, expected) < LIMITS.chance
        )

    def _found(self, kind: str, key: str, minute: int) -> Found:
        count, expected = self._counts(kind, minute) or (0, 0.0)
        end_ms = (minute + 1) * MINUTE_MS
        features = {
            "counted": "views" if kind == "traffic_drop" else "orders",
            "window_min": LIMITS.window_min,
            "count": count,
            "expected": round(expected, 1),
            "share": round(count / expected, 4),
            "base_min": LIMITS.base_min,
        }
        decided_ms = end_ms + LATENESS_MS
        return Found(kind, key, minute_name(minute), end_ms, decided_ms, features, decided_ms)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode((self._since, list(self._minutes.values())))

    def load(self, state: bytes) -> None:
        self._since, rows = msgspec.msgpack.decode(state, type=tuple[int | None, list[MinuteRow]])
        self._minutes = {row.minute_ms // MINUTE_MS: row for row in rows}
