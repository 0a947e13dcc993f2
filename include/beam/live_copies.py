"""Counts the events of one partition into minutes, each once: copies have the same key and so the same partition.

An id is remembered while a copy of it could still be accepted. A session starts with an event that has none of its
session before it within 30 minutes of arrival, its copies included, so that a job that begins anew 35 minutes earlier
finds the same starts. A partition that is added while it runs takes keys of others: what is known of their sessions
and copies stays behind, so that for half an hour some sessions count twice, until the hour is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from msgspec import Struct

from include.beam.live_parse import Counted
from include.beam.live_state import held, log_spec, version_spec
from include.beam.rules.rule import LATENESS_MS

SESSION_MS = 30 * 60_000
TAKEN = 1
COMPACT_S = 60


class Sums(Struct, array_like=True):
    """What a batch adds to minutes. sales: (minute, country, category, channel) -> units, thousandths; activity:
    (minute, country, channel) -> orders, refunds, sessions, views, carts; as lists of key and values."""

    read: int = 0
    rejected: dict[str, int] = {}
    late: int = 0
    newest_ms: int = 0
    sales: list[tuple[int, str, str, str, int, int]] = []
    activity: list[tuple[int, str, str, int, int, int, int, int]] = []


_decode = msgspec.msgpack.Decoder(Counted).decode
_State = tuple[dict[str, int], dict[str, int]]


class Copies:
    """What is known of a partition: ids with the minute of their event, and when each session was last heard of."""

    def __init__(self, first: int) -> None:
        self.first = first  # minutes before are not asked for
        self.ids: dict[str, int] = {}
        self.sessions: dict[str, int] = {}

    def take(self, kind: int, blob: bytes) -> Sums:  # noqa: ARG002 - there is one kind
        """A batch, as Counted."""
        counted = _decode(blob)
        sales: dict[tuple[int, str, str, str], list[int]] = {}
        activity: dict[tuple[int, str, str], list[int]] = {}
        first, sessions, channel = self.first, self.sessions, counted.channel
        for visit in counted.visits:
            session, arrival_ms = visit.session_id, visit.arrival_ms
            before_ms = sessions.get(session)
            sessions[session] = arrival_ms
            minute = visit.minute
            if minute < first or self._is_copy(visit.event_id, minute, arrival_ms):
                continue
            is_start = before_ms is None or arrival_ms - before_ms > SESSION_MS
            what = visit.what
            if is_start or what:
                row = activity.get((minute, visit.country, channel))
                if row is None:
                    row = activity[minute, visit.country, channel] = [0, 0, 0, 0, 0]
                row[2] += is_start
                if what == "v":
                    row[3] += 1
                elif what == "c":
                    row[4] += 1
        for trade in counted.trades:
            if trade.minute < first or self._is_copy(trade.event_id, trade.minute, trade.arrival_ms) or not trade.what:
                continue
            row = activity.setdefault((trade.minute, trade.country, trade.channel), [0, 0, 0, 0, 0])
            row[0 if trade.what == "o" else 1] += 1
            for category, units, mills in trade.lines:
                total = sales.setdefault((trade.minute, trade.country, category, trade.channel), [0, 0])
                total[0] += units
                total[1] += mills
        return Sums(
            counted.read,
            counted.rejected,
            counted.late,
            counted.newest_ms,
            [(*key, *values) for key, values in sales.items()],  # type: ignore[misc]
            [(*key, *values) for key, values in activity.items()],  # type: ignore[misc]
        )

    def _is_copy(self, event_id: str, minute: int, arrival_ms: int) -> bool:
        known = self.ids.get(event_id)
        if known is not None and arrival_ms <= _last_copy_ms(known):
            return True
        self.ids[event_id] = minute
        return False

    def forget(self, now_ms: int) -> None:
        """Drops what arrival has passed: ids whose copies would be late, sessions of which nothing was heard."""
        self.ids = {event_id: minute for event_id, minute in self.ids.items() if _last_copy_ms(minute) >= now_ms}
        oldest_ms = now_ms - SESSION_MS
        self.sessions = {session: last_ms for session, last_ms in self.sessions.items() if last_ms >= oldest_ms}

    @property
    def is_empty(self) -> bool:
        return not self.ids and not self.sessions

    def dump(self) -> bytes:
        return msgspec.msgpack.encode((self.ids, self.sessions))

    def load(self, blob: bytes) -> None:
        self.ids, self.sessions = msgspec.msgpack.decode(blob, type=_State)


def _last_copy_ms(minute: int) -> int:
    """The last arrival at which an event of a minute is not late."""
    return (minute + 1) * 60_000 + LATENESS_MS


class CountOnce(beam.DoFn):  # type: ignore[misc]
    """(place, Counted) -> at a bundle's end (0, [Sums]), all encoded. first: minutes (since the epoch) before are left
    out."""

    VERSION = version_spec()
    LOG = log_spec()
    COMPACT = TimerSpec("compact", TimeDomain.WATERMARK)

    def __init__(self, first: int) -> None:
        self.first = first

    def _make(self) -> Copies:
        return Copies(self.first)

    def start_bundle(self) -> None:
        self.sums: list[Sums] = []
        self.earliest = MAX_TIMESTAMP

    def process(
        self,
        keyed: tuple[str, bytes],
        at: Any = beam.DoFn.TimestampParam,
        version: Any = beam.DoFn.StateParam(VERSION),
        log: Any = beam.DoFn.StateParam(LOG),
        compact: Any = beam.DoFn.TimerParam(COMPACT),
    ) -> None:
        place, blob = keyed
        with held("copies", place, self._make, version, log) as state:
            if state.is_new:
                compact.set(Timestamp(_decode(blob).newest_ms // 1000 + COMPACT_S))
            self.sums.append(state.take(TAKEN, blob))
        self.earliest = min(self.earliest, at)

    def finish_bundle(self) -> Iterator[Any]:
        if self.sums:
            yield GlobalWindows.windowed_value((0, msgspec.msgpack.encode(self.sums)), self.earliest)

    @beam.transforms.userstate.on_timer(COMPACT)  # type: ignore[misc]
    def on_compact(
        self,
        place: Any = beam.DoFn.KeyParam,
        at: Any = beam.DoFn.TimestampParam,
        version: Any = beam.DoFn.StateParam(VERSION),
        log: Any = beam.DoFn.StateParam(LOG),
        compact: Any = beam.DoFn.TimerParam(COMPACT),
    ) -> None:
        with held("copies", place, self._make, version, log) as state:
            state.fold.forget(at.micros // 1000)
            if state.fold.is_empty:
                state.forget()
            else:
                state.compact()
                compact.set(at + COMPACT_S)
