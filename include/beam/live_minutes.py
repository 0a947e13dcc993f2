"""Minutes of sales and activity over all partitions: what has changed every 10 s, and each once more when it is final.

A minute is final when everything that arrived up to a minute after its end has been seen: later events of it are late
to the stream. What a final minute says is a function of the log alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp
from msgspec import Struct

from include.beam.live_copies import Sums
from include.beam.live_state import held, log_spec, version_spec
from include.beam.rules.rows import MinuteRow
from include.beam.rules.rule import LATENESS_MS

UPSERT_S = 10
# A drained job's watermark says nothing about the log.
AHEAD = "the watermark is ahead of the clock, the job is being drained or the clock was put back: start it anew"
OPEN_MS = 60_000 + LATENESS_MS  # from a minute's start until it is final
# A final minute's version is above that of every other, so that no job that is behind can undo it.
FINAL = 1 << 62
TAKEN, CLOSED, WRITTEN, TOLD = 1, 2, 3, 4

Key = tuple[int, str, str, str, str]  # minute, kind, country, category, channel
_decode = msgspec.msgpack.Decoder(list[Sums]).decode
log_ = logging.getLogger(__name__)  # `log` is Beam's state


class Row(Struct, array_like=True):
    """One row of a batch. net_sales: thousandths of GBP."""

    minute: int
    kind: str
    country: str
    category: str
    channel: str
    orders: int = 0
    units: int = 0
    net_sales: int = 0
    refunds: int = 0
    sessions: int = 0
    views: int = 0
    carts: int = 0


class Outcome(Struct):
    """What is to be written. final_until_ms: minutes before are final with this batch, None where none became so.
    read, rejected (by topic and reason), late: messages since the last one."""

    rows: list[Row]
    version: int
    final_until_ms: int | None
    read: int
    rejected: dict[str, int]
    late: int
    newest_ms: int


class OpenMinutes:
    """The minutes that are not final. closed: minutes (since the epoch) before are."""

    def __init__(self, first: int) -> None:
        self.closed = first
        self.rows: dict[Key, Row] = {}
        self.changed: set[Key] = set()
        self.totals = [0, 0, 0]  # read, late, newest_ms
        self.rejected: dict[str, int] = {}

    def take(self, kind: int, blob: bytes) -> list[Row]:
        """TAKEN: a list of Sums. CLOSED: minutes before this one are final; returns their rows. WRITTEN: all changes
        are out; returns the rows that have changed. TOLD: how much was read is out."""
        if kind == TAKEN:
            for sums in _decode(blob):
                self._add(sums)
            return []
        if kind == TOLD:
            self.totals[:2] = [0, 0]
            self.rejected = {}
            return []
        if kind == WRITTEN:
            changed = [self.rows[key] for key in sorted(self.changed)]
            self.changed.clear()
            return changed
        self.closed = max(self.closed, int.from_bytes(blob, "big"))
        done = sorted(key for key in self.rows if key[0] < self.closed)
        self.changed.difference_update(done)
        return [self.rows.pop(key) for key in done]

    def _add(self, sums: Sums) -> None:
        totals = self.totals
        totals[0] += sums.read
        totals[1] += sums.late
        totals[2] = max(totals[2], sums.newest_ms)
        for why, count in sums.rejected.items():
            self.rejected[why] = self.rejected.get(why, 0) + count
        for minute, country, category, channel, units, mills in sums.sales:
            row = self._row((minute, "sales", country, category, channel))
            row.units += units
            row.net_sales += mills
        for minute, country, channel, orders, refunds, sessions, views, carts in sums.activity:
            row = self._row((minute, "activity", country, "", channel))
            row.orders += orders
            row.refunds += refunds
            row.sessions += sessions
            row.views += views
            row.carts += carts

    def _row(self, key: Key) -> Row:
        if key[0] < self.closed:
            raise AssertionError(f"minute {key[0]} is final, and rows come for it: the watermark was wrong")
        self.changed.add(key)
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row(*key)
        return row

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(
            (self.closed, list(self.rows.values()), list(self.changed), self.totals, self.rejected)
        )

    def load(self, blob: bytes) -> None:
        state = tuple[int, list[Row], list[Key], list[int], dict[str, int]]
        self.closed, rows, changed, self.totals, self.rejected = msgspec.msgpack.decode(blob, type=state)
        self.rows = {(row.minute, row.kind, row.country, row.category, row.channel): row for row in rows}
        self.changed = set(changed)


class Minutes(beam.DoFn):  # type: ignore[misc]
    """(0, [Sums]) -> Outcome, tagged `minutes`: (0, rows of the final ones for the rules). An empty blob only sets it
    going. first: the first minute (since the epoch) that is complete; since: the first that is told, those before are
    for the rules alone."""

    VERSION = version_spec()
    LOG = log_spec()
    CLOSE = TimerSpec("close", TimeDomain.WATERMARK)
    UPSERT = TimerSpec("upsert", TimeDomain.REAL_TIME)

    def __init__(self, first: int, since: int) -> None:
        self.first, self.since = first, since

    def _make(self) -> OpenMinutes:
        return OpenMinutes(self.first)

    def _told(self, rows: list[Row]) -> list[Row]:
        return [row for row in rows if row.minute >= self.since]

    def process(
        self,
        keyed: tuple[int, bytes],
        version: Any = beam.DoFn.StateParam(VERSION),
        log: Any = beam.DoFn.StateParam(LOG),
        close: Any = beam.DoFn.TimerParam(CLOSE),
        upsert: Any = beam.DoFn.TimerParam(UPSERT),
    ) -> None:
        with held("minutes", 0, self._make, version, log) as state:
            if state.is_new:
                close.set(Timestamp.of((self.first * 60_000 + OPEN_MS) / 1000))
                upsert.set(Timestamp.of(time.time() + UPSERT_S))
            if keyed[1]:
                state.take(TAKEN, keyed[1])
            elif state.is_new:
                state.take(WRITTEN, b"")

    @on_timer(UPSERT)  # type: ignore[misc]
    def on_upsert(
        self,
        version: Any = beam.DoFn.StateParam(VERSION),
        log: Any = beam.DoFn.StateParam(LOG),
        upsert: Any = beam.DoFn.TimerParam(UPSERT),
    ) -> Iterator[Outcome]:
        upsert.set(Timestamp.of(time.time() + UPSERT_S))
        with held("minutes", 0, self._make, version, log) as state:
            rows: list[Row] = []
            (read, late, newest_ms), rejected = state.fold.totals, state.fold.rejected
            # Else what was read is told of with the first minute that is.
            if any(minute >= self.since for minute, *_ in state.fold.changed):
                rows = self._told(state.take(WRITTEN, b""))
                state.take(TOLD, b"")
            state.compact()
        if rows:
            yield Outcome(rows, _version(), None, read, rejected, late, newest_ms)

    @on_timer(CLOSE)  # type: ignore[misc]
    def on_close(
        self,
        at: Any = beam.DoFn.TimestampParam,
        version: Any = beam.DoFn.StateParam(VERSION),
        log: Any = beam.DoFn.StateParam(LOG),
        close: Any = beam.DoFn.TimerParam(CLOSE),
    ) -> Iterator[Any]:
        now_ms = at.micros // 1000
        if now_ms > time.time() * 1000:
            log_.warning("no minute closes any more: %s", AHEAD)
            return
        with held("minutes", 0, self._make, version, log) as state:
            first = state.fold.closed
            until = (now_ms - LATENESS_MS) // 60_000
            (read, late, newest_ms), rejected = state.fold.totals, state.fold.rejected
            rows = state.take(CLOSED, until.to_bytes(8, "big"))
            if until > self.since:
                state.take(TOLD, b"")
        close.set(Timestamp.of(((until + 1) * 60_000 + LATENESS_MS) / 1000))
        if until > self.since:
            told = self._told(rows)
            yield Outcome(told, FINAL + _version(), until * 60_000, read, rejected, late, newest_ms)
        for minute in range(first, until):
            yield TaggedOutput("minutes", (0, msgspec.msgpack.encode(platform_wide(minute, rows))))


def platform_wide(minute: int, rows: list[Row]) -> MinuteRow:
    """The minute as the rules see it."""
    mine = [row for row in rows if row.minute == minute]
    return MinuteRow(minute * 60_000, sum(row.orders for row in mine), sum(row.views for row in mine))


def _version() -> int:
    return time.time_ns() // 1000
