"""Orders by key and event time, and which of them a new one is in the window of."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import ClassVar

import msgspec

from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import AHEAD_MS, LATENESS_MS, Rule
from include.beam.snapshot import Snapshot

Entry = tuple[int, str, OrderRow]  # event_ms, event_id: what they are sorted by
Holds = Callable[[OrderRow, list[OrderRow]], bool]
MOST = 200  # orders of a window that are looked at, the latest; more of one party are an attack in any case


class Windows:
    """Orders of each key. The window of an order: those of its key within the width up to and with its own time,
    by time, at most the last MOST."""

    def __init__(self, width_s: int) -> None:
        self._width_ms = width_s * 1000
        self._entries: dict[str, list[Entry]] = {}

    def add(self, key: str, row: OrderRow, holds: Holds) -> list[tuple[OrderRow, list[OrderRow]]]:
        """Each order, with its window, for which `holds` has become true by the new one; none where that is known.
        holds(order, window): never made false by one more order in the window, so that which orders it is true for in
        the end does not depend on who came first."""
        entries = self._entries.setdefault(key, [])
        at = bisect_left(entries, (row.event_ms, row.event_id))
        if at < len(entries) and entries[at][:2] == (row.event_ms, row.event_id):
            return []
        entries.insert(at, (row.event_ms, row.event_id, row))
        found = []
        for event_ms, _, order in entries[bisect_left(entries, (row.event_ms,)) :]:
            if event_ms >= row.event_ms + self._width_ms:
                break
            window = self._window(entries, event_ms)
            if holds(order, window) and (order is row or not holds(order, [r for r in window if r is not row])):
                found.append((order, window))
        return found

    def _window(self, entries: list[Entry], event_ms: int) -> list[OrderRow]:
        first = bisect_left(entries, (event_ms - self._width_ms + 1,))
        past_last = bisect_left(entries, (event_ms + 1,))
        return [row for _, _, row in entries[max(first, past_last - MOST) : past_last]]

    def forget(self, before_ms: int) -> None:
        """Drops orders before this time."""
        for key, entries in list(self._entries.items()):
            if entries[0][0] < before_ms:
                kept = entries[bisect_left(entries, (before_ms,)) :]
                if kept:
                    self._entries[key] = kept
                else:
                    del self._entries[key]

    def dump(self) -> bytes:
        """All orders; what load() takes."""
        return msgspec.msgpack.encode({key: [row for _, _, row in entries] for key, entries in self._entries.items()})

    def load(self, state: bytes) -> None:
        """Takes the place of the present orders."""
        known = msgspec.msgpack.decode(state, type=dict[str, list[OrderRow]])
        self._entries = {key: [(row.event_ms, row.event_id, row) for row in rows] for key, rows in known.items()}


class WindowRule(Rule):
    """A rule whose whole state is windows of orders."""

    ROW = OrderRow
    WINDOW_S: ClassVar[int]

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__(snapshot)
        self.windows = Windows(self.WINDOW_S)

    def forget(self, before_ms: int) -> None:
        self.windows.forget(before_ms)

    def dump(self) -> bytes:
        return self.windows.dump()

    def load(self, state: bytes) -> None:
        self.windows.load(state)


def horizon_s(window_s: int) -> int:
    """For how long after its arrival an order may be in the window of one that comes: it may have been ahead of its
    time, and the other one late."""
    return window_s + (AHEAD_MS + LATENESS_MS) // 1000
