"""Plays logs to rules as the streaming job does: partitions interleaved, state stored and read, shards, a watermark."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from include.beam.rules import Found, Rule
from include.beam.snapshot import Snapshot

START_MS = 1_795_392_000_000  # 2026-11-23T00:00Z
SHARDS = 2
END_MS = 2**53

Partitions = list[list[Any]]  # rows in log order
Names = set[tuple[str, str, str]]


@dataclass(frozen=True)
class When:
    """Of an event: its time, and when it and its second copy, if there is one, arrived. Milliseconds."""

    event_ms: int
    arrival_ms: int
    again_ms: int | None


def names(found: Iterable[Found]) -> Names:
    """What names the signals."""
    return {(each.kind, each.subject, each.event_id) for each in found}


def content(found: Iterable[Found]) -> set[str]:
    """All that the signals say."""
    return {repr(each) for each in found}


@st.composite
def whens(draw: st.DrawFn, most: int, gaps_s: Sequence[int], most_ahead_s: int = 300) -> list[When]:
    """Times of up to so many events, by arrival, that the stream accepts: up to 60 s late, some seconds ahead."""
    ahead = [-most_ahead_s * 1000, -most_ahead_s * 500]
    now, found = START_MS, []
    for _ in range(draw(st.integers(1, most))):
        now += draw(st.sampled_from([0, 1, 999])) + 1000 * draw(st.sampled_from(gaps_s))
        event_ms = now - draw(st.sampled_from([0, 0, 20, 1_000, 30_000, 59_999, 60_000, *ahead]))
        again_ms = draw(st.integers(now, event_ms + 60_000)) if draw(st.integers(0, 5)) == 0 else None
        found.append(When(event_ms, now, again_ms))
    return found


def log(rows: Iterable[tuple[int, Any, When]], count: int) -> Partitions:
    """(partition, row, when) as partitions, with the second copies."""
    partitions: Partitions = [[] for _ in range(count)]
    for partition, row, when in rows:
        partitions[partition].append(row)
        if when.again_ms is not None:
            partitions[partition].append(row._replace(arrival_ms=when.again_ms))
    return [sorted(partition, key=lambda row: row.arrival_ms) for partition in partitions]


def play(
    make: type[Rule],
    snapshot: Snapshot | None,
    partitions: Partitions,
    random: Random | None = None,
    arrival: Callable[[Any], int] = lambda row: row.arrival_ms,
) -> list[Found]:
    """What a rule finds. random: draws which partition goes on, where the state is stored and read again, which row is
    seen twice, when the watermark is told; None: in the order of arrival, and the watermark after each row."""
    rules = [make(snapshot) for _ in range(SHARDS)]
    at = [0] * len(partitions)
    found: list[Found] = []

    def tell(watermark_ms: int) -> None:
        for rule in rules:
            found.extend(rule.advance(watermark_ms))
            rule.forget(watermark_ms - make.HORIZON_S * 1000)

    while left := [p for p, rows in enumerate(partitions) if at[p] < len(rows)]:
        p = random.choice(left) if random else min(left, key=lambda p: arrival(partitions[p][at[p]]))
        row = partitions[p][at[p]]
        at[p] += 1
        for key in rules[0].keys(row):
            shard = zlib.crc32(key.encode()) % SHARDS
            for _ in range(1 + (random is not None and random.random() < 0.2)):
                found += rules[shard].observe(key, row)
        if random is None or random.random() < 0.4:
            tell(min((arrival(rows[n]) for rows, n in zip(partitions, at) if n < len(rows)), default=arrival(row)))
        if random and random.random() < 0.2:
            shard = random.randrange(SHARDS)
            state, rules[shard] = rules[shard].dump(), make(snapshot)
            rules[shard].load(state)
    tell(END_MS)
    return found


def since(partitions: Partitions, arrival_ms: int) -> Partitions:
    """What arrived from a moment on."""
    return [[row for row in rows if row.arrival_ms >= arrival_ms] for rows in partitions]


def check_new_start(make: type[Rule], snapshot: Snapshot | None, partitions: Partitions, start_ms: int) -> None:
    """A job that begins anew, its horizon before a moment, finds from that moment on what the other one finds."""
    whole = play(make, snapshot, partitions)
    again = play(make, snapshot, since(partitions, start_ms - make.HORIZON_S * 1000))
    expected = content(each for each in whole if each.decided_ms >= start_ms)
    assert content(each for each in again if each.decided_ms >= start_ms) == expected
