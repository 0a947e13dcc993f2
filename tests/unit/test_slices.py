"""Slices: contiguous and disjoint whoever plans when, and a log that is not the ledger's is an error that says so."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from madhatter.slices import (
    CLOCK_TOLERANCE,
    Claim,
    LogError,
    LogExpired,
    LogTruncated,
    PartitionLog,
    Place,
    TopicRecreated,
    claim,
)

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


def test_log_that_was_cut_and_regrown_under_a_newer_leader_is_truncated() -> None:
    words = r"sales\.orders\[2\] was cut at offset 45 and written anew \(leader epoch 4\): offsets 45 to 49, .* epoch 3"
    with pytest.raises(LogTruncated, match=words):
        claim(log(leader_epoch=4, forked_at=45), claimed())


def test_log_that_was_cut_behind_what_is_claimed_has_lost_nothing_of_it() -> None:
    assert ends(log(leader_epoch=4, forked_at=50), claimed()) == (50, 80)


def test_slice_ends_at_the_stable_end_when_a_stamp_is_far_ahead_of_the_clock() -> None:
    assert ends(log(at_time=20, ahead=CLOCK_TOLERANCE + timedelta(seconds=1)), claimed()) == (50, 100)


def test_slice_waits_for_a_stamp_that_is_a_little_ahead_of_the_clock() -> None:
    assert ends(log(at_time=60, ahead=CLOCK_TOLERANCE), claimed()) == (50, 60)


def test_expired_log_is_named_with_the_range_that_nobody_has_read() -> None:
    words = r"sales\.orders\[2\] starts at offset 55, but 50 to 54 were never read: 5 offsets have expired"
    with pytest.raises(LogExpired, match=words):
        claim(log(first=55), claimed())


def test_offsets_that_expired_after_they_were_claimed_are_no_error() -> None:
    assert ends(log(first=50), claimed()) == (50, 80)


@dataclass(frozen=True)
class Record:
    """stamp: what the broker's clock said when it arrived, s; arrived: when it did; epoch: its leader's."""

    number: int
    arrived: int
    stamp: int
    epoch: int


@dataclass
class Partition:
    """The records of a log by offset, from which offset on they are not stable, and which have expired."""

    records: list[Record] = field(default_factory=list)
    open_from: int | None = None
    first: int = 0
    epoch: int = 0
    clock_ahead: int = 0  # of its broker, s

    @property
    def stable_end(self) -> int:
        return len(self.records) if self.open_from is None else min(self.open_from, len(self.records))

    def now(self, topic_id: str, window_end: int, clock: int, last: Claim | None) -> PartitionLog:
        """What a broker says of it: the first stable stamp at or after window_end, the greatest one, and where the
        records of the newest claim's leader, and of those before it, end."""
        stable = self.records[self.first : self.stable_end]
        later = (offset for offset, one in enumerate(stable, self.first) if one.stamp >= window_end)
        ahead = max((one.stamp for one in stable), default=clock) - clock
        forked_at = None
        if last is not None and self.epoch > last.leader_epoch and self.first <= last.end <= self.stable_end:
            forked_at = max(self.first, sum(one.epoch <= last.leader_epoch for one in self.records))
            forked_at = forked_at if forked_at < last.end else None
        first = min(self.first, len(self.records))
        ahead_by = timedelta(seconds=max(0, ahead))
        return PartitionLog(topic_id, self.epoch, first, self.stable_end, next(later, None), ahead_by, forked_at)


Held = list[tuple[Claim, list[Record]]]  # a slice's claims with the records that it read


class Planners(RuleBasedStateMachine):
    """A log that grows, expires, loses its leaders and its clock; planners that close windows in any order and again.
    The ledger promises them that one plans at a time, and that a slice that is known is returned as it is."""

    @initialize(partitions=st.integers(1, 3))
    def begin(self, partitions: int) -> None:
        self.clock, self.sent, self.generation = 1_000_000, 0, 0
        self.partitions = [Partition() for _ in range(partitions)]
        self.ledger: dict[int, Held] = {}  # by window end
        self.retired: list[Held] = []

    def claims(self, partition: int) -> list[tuple[Claim, list[Record]]]:
        return [one for held in self.ledger.values() for one in held if one[0].partition == partition]

    def last(self) -> dict[Place, Claim]:
        found = {}
        for number in range(len(self.partitions)):
            if claims := self.claims(number):
                newest = max((c for c, _ in claims), key=lambda c: (c.end, c.start, c.leader_epoch))
                found["t", number] = newest
        return found

    def one(self, at: int) -> tuple[int, Partition]:
        number = at % len(self.partitions)
        return number, self.partitions[number]

    @rule(at=st.integers(0, 5), count=st.integers(1, 10), pause=st.sampled_from([0, 1, 60, 900, 90_000]))
    def records_arrive(self, at: int, count: int, pause: int) -> None:
        self.clock += pause
        _, partition = self.one(at)
        for _ in range(count):
            self.sent += 1
            stamp = self.clock + partition.clock_ahead
            partition.records.append(Record(self.sent, self.clock, stamp, partition.epoch))

    @rule(at=st.integers(0, 5), ahead=st.sampled_from([0, 0, 60, 300, 86_400, -60, -7200]))
    def a_brokers_clock_jumps(self, at: int, ahead: int) -> None:
        self.one(at)[1].clock_ahead = ahead

    @rule(at=st.integers(0, 5))
    def a_transaction_opens(self, at: int) -> None:
        _, partition = self.one(at)
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
        number, partition = self.one(at)
        last = self.last().get(("t", number))
        if last is not None:
            partition.first = max(partition.first, min(last.end, len(partition.records)))

    @precondition(lambda self: len(self.ledger) > 1)
    @rule(at=st.integers(0, 5))
    def all_offsets_expire(self, at: int) -> None:
        _, partition = self.one(at)
        partition.first = partition.stable_end

    @rule(at=st.integers(0, 5))
    def another_replica_leads(self, at: int) -> None:
        self.one(at)[1].epoch += 1

    @rule(at=st.integers(0, 5), back=st.integers(1, 20), grows=st.integers(0, 30))
    def a_replica_that_had_less_leads(self, at: int, back: int, grows: int) -> None:
        _, partition = self.one(at)
        partition.epoch += 1
        partition.open_from = None
        kept = max(partition.first, len(partition.records) - back)
        del partition.records[kept:]
        if grows:
            self.records_arrive(at, grows, 0)

    @precondition(lambda self: len(self.ledger) > 1)
    @rule()
    def the_topic_is_made_again(self) -> None:
        self.generation += 1
        self.partitions = [Partition() for _ in self.partitions]

    @rule(pause=st.sampled_from([0, 1, 60, 3600]), back=st.sampled_from([0, 0, 1, 60, 900, 7200]))
    def a_window_is_planned(self, pause: int, back: int) -> None:
        self.clock += pause
        window_end = self.clock - back
        if window_end in self.ledger:  # a retry, a clear, or another planner of the same window: `as it is`
            return
        last = self.last()
        topic_id = f"id-{self.generation}"
        now = {
            ("t", number): partition.now(topic_id, window_end, self.clock, last.get(("t", number)))
            for number, partition in enumerate(self.partitions)
        }
        claims, refused = [], None
        try:
            claims = claim(now, last)
        except LogError as error:
            refused = error
        assert self.is_lost(last) is (refused is not None), f"{refused} is wrong: {now}, {last}"
        if refused is not None:
            self.somebody_acts_on(refused, last)
            return
        assert [c.partition for c in claims] == list(range(len(self.partitions)))
        self.ledger[window_end] = [(c, self.partitions[c.partition].records[c.start : c.end]) for c in claims]
        for one, partition in zip(claims, self.partitions, strict=True):
            assert one.start <= one.end <= max(one.start, partition.stable_end)
            self.nothing_waits_too_long(one, partition, window_end)

    def nothing_waits_too_long(self, one: Claim, partition: Partition, window_end: int) -> None:
        """What had arrived for good before the window's end is claimed, but for the tolerance of a clock."""
        stable = partition.records[partition.first : partition.stable_end]
        newest = max((record.stamp for record in stable), default=0)
        tolerance = int(CLOCK_TOLERANCE.total_seconds())
        if window_end <= newest <= self.clock + tolerance:
            # Stamps that are right, or nearly: those before the first stamp of a later window.
            first_later = next(at for at, record in enumerate(stable) if record.stamp >= window_end)
            stable = stable[:first_later]
        left = [r for r in partition.records[one.end : partition.stable_end] if r in stable and r.arrived < window_end]
        assert not left, f"left behind: {left}"

    def is_lost(self, last: dict[Place, Claim]) -> bool:
        """Whether claimed offsets hold other records now or none, or others left the log before their turn."""
        for number, partition in enumerate(self.partitions):
            newest = last.get(("t", number))
            if newest is None:
                continue
            if newest.topic_id != f"id-{self.generation}" or min(partition.first, len(partition.records)) > newest.end:
                return True
            for one, records in self.claims(number):
                kept = records[max(0, partition.first - one.start) :]
                if kept != partition.records[max(one.start, partition.first) : one.end]:
                    return True
        return False

    def somebody_acts_on(self, error: LogError, last: dict[Place, Claim]) -> None:
        """As docs/runbook.md says: a gap is shown by an empty claim, any other log is retired and read anew."""
        if not isinstance(error, LogExpired):
            self.retired += self.ledger.values()
            self.ledger = {}
            return
        gaps: Held = []
        for number, partition in enumerate(self.partitions):
            newest = last.get(("t", number))
            if newest is not None and partition.first > newest.end:
                gaps.append((replace(newest, start=partition.first, end=partition.first), []))
        self.ledger[-1 - len(self.ledger)] = gaps

    @rule()
    def committed_slices_are_replayed(self) -> None:
        """Their offsets are read again: the same records, or the next plan says why not."""
        for number, partition in enumerate(self.partitions):
            for one, records in self.claims(number):
                if partition.first <= one.start and not self.is_lost(self.last()):
                    assert partition.records[one.start : one.end] == records

    @invariant()
    def claims_of_a_partition_follow_each_other(self) -> None:
        for number in range(len(getattr(self, "partitions", ()))):
            past_last = None
            for one, _ in self.claims(number):
                is_gap = one.start == one.end and past_last is not None and one.start > past_last
                assert past_last in (None, one.start) or is_gap, f"gap or overlap in partition {number}: {self.ledger}"
                past_last = one.end

    @invariant()
    def no_record_is_read_twice_from_one_log(self) -> None:
        for held in [getattr(self, "ledger", {})]:
            read = [record.number for claims in held.values() for _, records in claims for record in records]
            assert len(read) == len(set(read))


Planners.TestCase.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
TestPlanners = Planners.TestCase
