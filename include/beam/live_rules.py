"""The rules over the stream: their state by shard, their findings as signals."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer

from include import signals
from include.beam import snapshot
from include.beam.live_minutes import AHEAD
from include.beam.live_reasons import DeadLetter, told
from include.beam.live_state import held, log_spec, version_spec
from include.beam.rules.rows import MinuteRow
from include.beam.rules.rule import Found, Rule

ROWS, TIME = 1, 2
ADVANCE_S = 2  # what is decided by the absence of events is decided so late, at most
COMPACT_MS = 60_000
log = log_ = logging.getLogger(__name__)  # in methods with Beam's state `log` is that
_decode = msgspec.msgpack.Decoder(list[tuple[str, int, dict[str, msgspec.Raw]]]).decode


def of_minute(keyed: tuple[int, bytes], rules: Sequence[type[Rule]]) -> tuple[int, bytes]:
    """A final minute as the rules take it, all in one shard."""
    row = msgspec.msgpack.decode(keyed[1], type=MinuteRow)
    rows = {rule.NAME: [(key, 0, row) for key in rule(None).keys(row)] for rule in rules}
    return 0, msgspec.msgpack.encode([("minutes", 0, rows)])


class Shard:
    """All rules' state of one shard."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = {rule.NAME: rule for rule in rules}
        self.compacted_ms = 0
        self.decoders = {r.NAME: msgspec.msgpack.Decoder(list[tuple[str, int, r.ROW]]) for r in rules}  # type: ignore[name-defined]

    def take(self, kind: int, blob: bytes) -> tuple[list[Found], list[DeadLetter]]:
        """ROWS: what ParseBatch gives for a shard. TIME: the watermark, milliseconds in eight bytes."""
        return self._observe(blob) if kind == ROWS else self._advance(int.from_bytes(blob, "big"))

    def _observe(self, blob: bytes) -> tuple[list[Found], list[DeadLetter]]:
        found: list[Found] = []
        letters: list[DeadLetter] = []
        for topic, partition, by_rule in _decode(blob):
            for name, rows in by_rule.items():
                observe = self.rules[name].observe
                for key, offset, row in self.decoders[name].decode(rows):
                    try:
                        found += observe(key, row)
                    except Exception as error:
                        log.exception("%s/%d offset %d: rule %s fails on this event", topic, partition, offset, name)
                        letters.append(DeadLetter(topic, partition, offset, f"rule {name}: {told(error)}"))
        return found, letters

    def _advance(self, now_ms: int) -> tuple[list[Found], list[DeadLetter]]:
        found: list[Found] = []
        for name, rule in self.rules.items():
            try:
                found += rule.advance(now_ms)
            except Exception:
                log.exception("rule %s fails to advance to %d", name, now_ms)
        return found, []

    def forget(self, now_ms: int) -> None:
        """Drops what can no longer matter. now_ms: the watermark."""
        for name, rule in self.rules.items():
            try:
                rule.forget(now_ms - rule.HORIZON_S * 1000)
            except Exception:
                log.exception("rule %s fails to forget what was before %d", name, now_ms)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode({name: rule.dump() for name, rule in self.rules.items()})

    def load(self, blob: bytes) -> None:
        for name, state in msgspec.msgpack.decode(blob, type=dict[str, bytes]).items():
            self.rules[name].load(state)


class Judge(beam.DoFn):  # type: ignore[misc]
    """(shard, rows) -> Signals, and tagged `letters`: DeadLetter. since_ms: what was decided before is left out, an
    earlier job has told it."""

    VERSION = version_spec()
    LOG = log_spec()
    ADVANCE = TimerSpec("advance", TimeDomain.WATERMARK)

    def __init__(self, step: str, rules: Sequence[type[Rule]], snapshot_uri: str | None, since_ms: int) -> None:
        self.step, self.rules, self.snapshot_uri, self.since_ms = step, rules, snapshot_uri, since_ms

    def _make(self) -> Shard:
        known = snapshot.read(self.snapshot_uri) if self.snapshot_uri else None
        return Shard([rule(known) for rule in self.rules])

    def process(
        self,
        keyed: tuple[int, bytes],
        at: Any = beam.DoFn.TimestampParam,
        version: Any = beam.DoFn.StateParam(VERSION),
        log: Any = beam.DoFn.StateParam(LOG),
        advance: Any = beam.DoFn.TimerParam(ADVANCE),
    ) -> Iterator[Any]:
        number, blob = keyed
        with held(self.step, number, self._make, version, log) as state:
            if state.is_new:
                advance.set(at + ADVANCE_S)
            found, letters = state.take(ROWS, blob)
        yield from self._signals(found)
        for letter in letters:
            yield TaggedOutput("letters", letter)

    @on_timer(ADVANCE)  # type: ignore[misc]
    def on_advance(
        self,
        number: Any = beam.DoFn.KeyParam,
        at: Any = beam.DoFn.TimestampParam,
        version: Any = beam.DoFn.StateParam(VERSION),
        log: Any = beam.DoFn.StateParam(LOG),
        advance: Any = beam.DoFn.TimerParam(ADVANCE),
    ) -> Iterator[Any]:
        now_ms = at.micros // 1000
        if now_ms > time.time() * 1000:
            log_.warning("%s: nothing is decided by absence any more: %s", self.step, AHEAD)
            return
        with held(self.step, number, self._make, version, log) as state:
            found, _ = state.take(TIME, now_ms.to_bytes(8, "big"))
            if now_ms - state.fold.compacted_ms >= COMPACT_MS:
                state.fold.compacted_ms = now_ms
                state.fold.forget(now_ms)
                state.compact()
        # Far behind, in steps of up to a minute: what is found does not depend on them.
        advance.set(at + max(ADVANCE_S, min(60, int(time.time() - now_ms / 1000) // 20)))
        yield from self._signals(found)

    def _signals(self, found: list[Found]) -> Iterator[signals.Signal]:
        now = datetime.now(UTC)
        for one in found:
            if one.decided_ms >= self.since_ms:
                yield signals.Signal(
                    signals.signal_id(one.kind, one.subject, one.event_id),
                    one.kind,  # type: ignore[arg-type]
                    one.subject,
                    one.event_id,
                    _moment(one.event_ms),
                    _moment(one.arrival_ms),
                    now,
                    signals.trace_id(one.event_id),
                    one.features,
                )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
