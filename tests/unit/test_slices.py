"""Slices: contiguous and disjoint whoever plans when, and a log that is not the ledger's is an error that says so."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from madhatter.slices import Claim, LogExpired, LogTruncated, PartitionLog, Place, TopicRecreated, claim

PLACE: Place = ("sales.orders", 2)


def log(**changes: object) -> dict[Place, PartitionLog]:
    """One partition with offsets 0..99, the window ending before offset 80."""
    now = PartitionLog(topic_id="id-1", leader_epoch=3, first=0, stable_end=100, at_time=80)
    return {PLACE: replace(now, **changes)}  # type: ignore[arg-type]


def claimed(**changes: object) -> dict[Place, Claim]:
    """A newest claim of offsets 10..49."""
    last = Claim(*PLACE, topic_id="id-1", leader_epoch=3, start=10, end=50)
    return {PLACE: replace(last, **changes)}  # type: ignore[arg-type]


def ends(now: dict[Place, PartitionLog], last: dict[Place, Claim]) -> tuple[int, int]:
    (one,) = claim(now, last)
    return one.start, one.end


def test_first_slice_begins_where_the_log_begins() -> None:
    assert ends(log(first=7), {}) == (7, 80)


def test_slice_begins_where_the_last_one_ended() -> None:
    assert ends(log(), claimed()) == (50, 80)


def test_slice_ends_at_the_stable_end_when_nothing_is_newer_than_its_window() -> None:
    assert ends(log(at_time=None), claimed()) == (50, 100)


def test_open_transaction_ends_the_slice_before_its_window() -> None:
    assert ends(log(stable_end=60), claimed()) == (50, 60)


def test_slice_of_a_window_that_another_one_has_taken_is_empty() -> None:
    assert ends(log(at_time=20), claimed()) == (50, 50)


def test_added_partition_is_read_from_its_start() -> None:
    both = log() | {("sales.orders", 3): PartitionLog("id-1", 0, 0, 9, None)}
    assert [(c.partition, c.start, c.end) for c in claim(both, claimed())] == [(2, 50, 80), (3, 0, 9)]


def test_new_leader_is_no_error_and_is_remembered() -> None:
    (one,) = claim(log(leader_epoch=5), claimed())
    assert one.leader_epoch == 5


def test_recreated_topic_is_named_with_both_ids_and_the_claimed_end() -> None:
    with pytest.raises(TopicRecreated, match=r"sales\.orders\[2\] has topic id id-2, the ledger has id-1 .* offset 50"):
        claim(log(topic_id="id-2"), claimed())


def test_truncated_log_is_named_with_its_end_and_the_missing_offsets() -> None:
    words = r"sales\.orders\[2\] ends at offset 42 .* offsets up to 50 .* 8 offsets are gone"
    with pytest.raises(LogTruncated, match=words):
        claim(log(stable_end=42, at_time=None), claimed())


def test_log_of_an_older_leader_is_truncated_even_where_it_is_longer() -> None:
    with pytest.raises(LogTruncated, match=r"sales\.orders\[2\] .*\(leader epoch 2\).*\(epoch 3\).* older leader's"):
        claim(log(leader_epoch=2), claimed())


def test_expired_log_is_named_with_the_range_that_nobody_has_read() -> None:
    words = r"sales\.orders\[2\] starts at offset 55, but 50 to 54 were never read: 5 offsets have expired"
    with pytest.raises(LogExpired, match=words):
        claim(log(first=55), claimed())


def test_offsets_that_expired_after_they_were_claimed_are_no_error() -> None:
    assert ends(log(first=50), claimed()) == (50, 80)


@dataclass
class Partition:
    """Arrival times of its records, and how many of them are stable and expired."""

    arrivals: list[int] = field(default_factory=list)
    open_from: int | None = None
    first: int = 0

    @property
    def stable_end(self) -> int:
        return len(self.arrivals) if self.open_from is None else self.open_from


class Planners(RuleBasedStateMachine):
    """A log that grows, planners that close windows in any order and again, and the ledger's two promises to them: one
    plans at a time, and a slice that is known is returned as it is."""

    @initialize(partitions=st.integers(1, 3))
    def begin(self, partitions: int) -> None:
        self.clock = 0
        self.partitions = [Partition() for _ in range(partitions)]
        self.ledger: dict[int, list[Claim]] = {}  # by window end

    def last(self) -> dict[Place, Claim]:
        found: dict[Place, Claim] = {}
        for one in (c for claims in self.ledger.values() for c in claims):
            place = (one.topic, one.partition)
            if place not in found or (one.end, one.start) > (found[place].end, found[place].start):
                found[place] = one
        return found

    @rule(at=st.integers(0, 5), count=st.integers(1, 30), pause=st.integers(0, 3))
    def records_arrive(self, at: int, count: int, pause: int) -> None:
        self.clock += pause
        self.partitions[at % len(self.partitions)].arrivals += [self.clock] * count

    @rule(at=st.integers(0, 5))
    def a_transaction_opens(self, at: int) -> None:
        partition = self.partitions[at % len(self.partitions)]
        partition.open_from = partition.stable_end

    @rule()
    def transactions_end(self) -> None:
        for partition in self.partitions:
            partition.open_from = None

    @rule()
    def a_partition_is_added(self) -> None:
        if len(self.partitions) < 6:
            self.partitions.append(Partition())

    @rule(at=st.integers(0, 5))
    def claimed_offsets_expire(self, at: int) -> None:
        number = at % len(self.partitions)
        last = self.last().get(("t", number))
        if last is not None:
            self.partitions[number].first = last.end

    @rule(back=st.integers(0, 10))
    def a_window_is_planned(self, back: int) -> None:
        window_end = self.clock - back
        known = self.ledger.get(window_end)
        if known is not None:  # a retry, or another planner of the same window
            return
        now = {}
        for number, partition in enumerate(self.partitions):
            at_time = bisect_left(partition.arrivals, window_end)
            newer = at_time if at_time < len(partition.arrivals) else None
            now["t", number] = PartitionLog("id", 0, partition.first, partition.stable_end, newer)
        claims = claim(now, self.last())
        self.ledger[window_end] = claims
        assert [c.partition for c in claims] == list(range(len(self.partitions)))
        for one, partition in zip(claims, self.partitions, strict=True):
            assert one.start <= one.end <= partition.stable_end
            # Nothing that had arrived for good before the window's end is left behind.
            assert one.end >= min(bisect_left(partition.arrivals, window_end), partition.stable_end)

    @invariant()
    def claims_of_a_partition_follow_each_other(self) -> None:
        for number in range(len(getattr(self, "partitions", ()))):
            ends = 0
            for one in (c for claims in self.ledger.values() for c in claims if c.partition == number):
                assert one.start == ends, f"gap or overlap in partition {number}: {self.ledger}"
                ends = one.end


Planners.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPlanners = Planners.TestCase
