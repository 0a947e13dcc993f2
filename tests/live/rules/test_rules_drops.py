"""Traffic and sales that fall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from include.beam.rules import Found, MinuteRow, thresholds
from include.beam.rules.chance import poisson_bound
from include.beam.rules.drops import Drop
from tests.live.rules.stream import START_MS, content, play

LIMITS = thresholds.read().drop
BASE = LIMITS.base_min


def minutes(views: Sequence[int], orders: int = 0) -> list[MinuteRow]:
    return [MinuteRow(START_MS + n * 60_000, orders, count) for n, count in enumerate(views)]


def arrival(row: MinuteRow) -> int:
    """When a minute is final."""
    return row.minute_ms + 120_000


def found(rows: list[MinuteRow]) -> list[Found]:
    return play(Drop, None, [rows], arrival=arrival)


def at(minute: int) -> str:
    return f"minute:2026-11-23T{minute // 60:02d}:{minute % 60:02d}Z"


def test_drop_is_one_signal_an_episode() -> None:
    views = [1000] * 40 + [10] * 5 + [1000] * 40 + [10] * 2
    (first, second) = found(minutes(views))
    assert (first.kind, first.subject, first.event_id) == ("traffic_drop", "platform", at(41))
    assert first.features["expected"] == 2 * (29 * 1000 + 1000) / 30
    assert first.features["count"] == 20
    assert second.event_id == at(86)


def test_sales_that_stop_are_found_though_traffic_goes_on() -> None:
    rows = minutes([100] * 40, orders=60) + [MinuteRow(START_MS + n * 60_000, 0, 100) for n in range(40, 44)]
    assert [(each.kind, each.event_id) for each in found(rows)] == [("sales_drop", at(41))]


def test_quiet_platform_has_no_drops() -> None:
    assert not found(minutes([4] * 40 + [0] * 10, orders=2))


def test_minutes_that_stay_missing_had_nothing() -> None:
    rows = minutes([1000] * 60)
    assert [each.event_id for each in found(rows[:40] + rows[45:])] == [at(41)]


@given(
    views=st.lists(st.sampled_from([0, 300, 1000]), min_size=40, max_size=60), random=st.randoms(use_true_random=False)
)
def test_minutes_that_overtake_one_another_change_nothing(views: list[int], random: Random) -> None:
    rows = minutes(views)
    late = sorted(rows[1:], key=lambda row: row.minute_ms + random.randrange(4 * 60_000))
    rule = Drop(None)
    assert content(each for row in [rows[0], *late] for each in rule.observe("platform", row)) == content(found(rows))


def test_first_half_hour_of_a_platform_says_nothing() -> None:
    assert not found(minutes([1000] * (BASE - 1) + [0] * 2))


@given(
    views=st.lists(st.sampled_from([0, 10, 300, 1000]), min_size=30, max_size=120),
    start=st.integers(0, 120),
    stored=st.integers(0, 120),
)
def test_job_that_begins_anew_its_horizon_earlier_finds_the_same(views: list[int], start: int, stored: int) -> None:
    rows = minutes(views)
    since_ms = START_MS + start * 60_000
    later = [row for row in rows if arrival(row) >= since_ms - Drop.HORIZON_S * 1000]
    rule = Drop(None)
    again = []
    for n, row in enumerate(later):
        again += rule.observe("platform", row) + rule.observe("platform", row)
        if n == stored:
            state, rule = rule.dump(), Drop(None)
            rule.load(state)
    assert content(each for each in again if each.decided_ms >= since_ms) == content(
        each for each in found(rows) if each.decided_ms >= since_ms
    )


@given(expected=st.floats(0.1, 60), count=st.integers(0, 120))
def test_bound_is_never_below_the_probability(expected: float, count: int) -> None:
    def chance(k: int) -> float:
        return math.exp(k * math.log(expected) - expected - math.lgamma(k + 1))

    tail = sum(map(chance, range(count + 1))) if count < expected else sum(map(chance, range(count, count + 400)))
    assert poisson_bound(count, expected) >= tail * (1 - 1e-9)
