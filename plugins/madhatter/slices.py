"""Cuts the log into slices: contiguous, disjoint offset ranges per partition. Pure: offsets in, claims out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

Place = tuple[str, int]  # topic, partition
CLOCK_TOLERANCE = timedelta(minutes=5)  # how long a slice may wait for a stamp ahead of the clock


class LogError(RuntimeError):
    """The log is not the one that the ledger knows: topic, partition and missing offsets are named."""


class TopicRecreated(LogError):
    """The topic was deleted and made again: its offsets start over."""


class LogTruncated(LogError):
    """The log has lost offsets that were already claimed: it ends before them, or holds others in their place."""


class LogExpired(LogError):
    """Offsets that nobody has claimed yet have left the log."""


@dataclass(frozen=True)
class PartitionLog:
    """A partition now. first: log start; stable_end: last stable offset; at_time: first offset that arrived at the
    window's end or later, None when there is none; ahead: how far its newest stamp is ahead of our clock, if it is;
    forked_at: where the log left the one that the newest claim was made in, None when it did not."""

    topic_id: str
    leader_epoch: int
    first: int
    stable_end: int
    at_time: int | None
    ahead: timedelta = timedelta(0)
    forked_at: int | None = None

    @property
    def is_cut_by_time(self) -> bool:
        """Whether the stamps say where a window ends. After a record from the future every later one seems to belong to
        windows to come, and the partition would stand still until the clock gets there."""
        return self.ahead <= CLOCK_TOLERANCE


@dataclass(frozen=True)
class Claim:
    """Offsets [start, end) of one partition that a slice owns."""

    topic: str
    partition: int
    topic_id: str
    leader_epoch: int
    start: int
    end: int


def claim(log: Mapping[Place, PartitionLog], claimed: Mapping[Place, Claim]) -> list[Claim]:
    """The next slice: in each partition from the last claimed end (or the log's start, where nothing was claimed yet)
    to the window's end, or to the stable end where time does not cut. claimed: the newest claim of each partition.
    Returns one claim a partition, empty ones included. Raises TopicRecreated, LogTruncated, LogExpired."""
    return [_claim(place, now, claimed.get(place)) for place, now in sorted(log.items())]


def _claim(place: Place, now: PartitionLog, last: Claim | None) -> Claim:
    topic, partition = place
    start = now.first if last is None else last.end
    if last is not None:
        _check_same_log(place, now, last)
    end = now.stable_end if now.at_time is None or not now.is_cut_by_time else min(now.at_time, now.stable_end)
    return Claim(topic, partition, now.topic_id, now.leader_epoch, start, max(start, end))


def _check_same_log(place: Place, now: PartitionLog, last: Claim) -> None:
    name = f"{place[0]}[{place[1]}]"
    if now.topic_id != last.topic_id:
        raise TopicRecreated(
            f"{name} has topic id {now.topic_id}, the ledger has {last.topic_id} up to offset {last.end}: it was "
            "deleted and made again. Restore it, or retire its claims as docs/runbook.md says (topic recreated)"
        )
    if now.stable_end < last.end or now.leader_epoch < last.leader_epoch:
        gone = last.end - now.stable_end
        raise LogTruncated(
            f"{name} ends at offset {now.stable_end} (leader epoch {now.leader_epoch}), but offsets up to {last.end} "
            f"(epoch {last.leader_epoch}) are claimed: "
            + (f"{gone} offsets are gone from the log. " if gone > 0 else "the log went back to an older leader's. ")
            + "See docs/runbook.md (log truncated)"
        )
    if now.forked_at is not None and now.forked_at < last.end:
        raise LogTruncated(
            f"{name} was cut at offset {now.forked_at} and written anew (leader epoch {now.leader_epoch}): offsets "
            f"{now.forked_at} to {last.end - 1}, claimed under epoch {last.leader_epoch}, now hold other records or "
            "none. See docs/runbook.md (log truncated)"
        )
    if now.first > last.end:
        raise LogExpired(
            f"{name} starts at offset {now.first}, but {last.end} to {now.first - 1} were never read: "
            f"{now.first - last.end} offsets have expired. See docs/runbook.md (log expired)"
        )
