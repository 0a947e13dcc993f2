"""Orders by key and event time, and which of them a new one is in the window of."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

import msgspec

from include.beam.rules.rows import OrderRow

Entry = tuple[int, str, OrderRow]  # event_ms, event_id: what they are sorted by
MOST = 200  # orders of a window that are looked at, the latest; more of one party are an attack in any case


class Windows:
    """Orders of each key. The window of an order: those of its key within the width up to and with its own time,
    by time, at most the last MOST."""

    def __init__(self, width_s: int) -> None:
        self._width_ms = width_s * 1000
        self._entries: dict[str, list[Entry]] = {}

    def add(self, key: str, row: OrderRow) -> Iterator[tuple[OrderRow, list[OrderRow]]]:
        """Each order in whose window the new one is, itself first, with that window as it is now; nothing where the
        order is known."""
        entries = self._entries.setdefault(key, [])
        at = bisect_left(entries, (row.event_ms, row.event_id))
        if at < len(entries) and entries[at][1] == row.event_id and entries[at][0] == row.event_ms:
            return
        insort(entries, (row.event_ms, row.event_id, row))
        yield row, self._window(entries, row.event_ms)
        for event_ms, event_id, other in entries[bisect_left(entries, (row.event_ms,)) :]:
            if event_ms >= row.event_ms + self._width_ms:
                break
            if event_id != row.event_id:
                yield other, self._window(entries, event_ms)

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
