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
WAIT_MIN = 5
_KINDS = {"traffic_drop": 2, "sales_drop": 1}  # the field of a MinuteRow


class Drop(Rule):
    """Finds the minute with which the last final minutes have far less than those before let expect, where there is
    enough to expect. Every minute comes, also an empty one; one whose predecessor is still missing waits for it, until
    there are WAIT_MIN later ones: then the missing one was empty. One signal an episode."""

    NAME = "drop"
    KINDS = ("traffic_drop", "sales_drop")
    ROW = MinuteRow
    HORIZON_S = 60 * (KEPT + 1)

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self._since = -1  # the first minute that was ever seen
        self._next = -1  # the first one that is not judged
        self._minutes: dict[int, MinuteRow] = {}

    def keys(self, row: MinuteRow) -> Iterable[str]:  # noqa: ARG002
        return ("platform",)

    def observe(self, key: str, row: MinuteRow) -> list[Found]:
        minute = row.minute_ms // MINUTE_MS
        if self._since < 0:
            self._since = self._next = minute
        if minute < self._next or minute in self._minutes:
            return []
        self._minutes[minute] = row
        newest = max(self._minutes)
        found: list[Found] = []
        while self._next in self._minutes or self._next <= newest - WAIT_MIN:
            for kind in self.KINDS:
                before = range(self._next - LIMITS.quiet_min, self._next)
                if self._holds(kind, self._next) and not any(self._holds(kind, each) for each in before):
                    found.append(self._found(kind, key, self._next))
            self._next += 1
        self._minutes = {each: known for each, known in self._minutes.items() if each > self._next - 1 - KEPT}
        return found

    def _counts(self, kind: str, minute: int) -> tuple[int, float] | None:
        """(what there was in the window that ends with a minute, what was expected); None where too little is known."""
        past_base = minute - LIMITS.window_min + 1
        if self._since > past_base - LIMITS.base_min:
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
        return msgspec.msgpack.encode((self._since, self._next, list(self._minutes.values())))

    def load(self, state: bytes) -> None:
        self._since, self._next, rows = msgspec.msgpack.decode(state, type=tuple[int, int, list[MinuteRow]])
        self._minutes = {row.minute_ms // MINUTE_MS: row for row in rows}
