"""Cuts the log into slices: contiguous, disjoint offset ranges per partition. Pure: offsets in, claims out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Place = tuple[str, int]  # topic, partition


class LogError(RuntimeError):
    """The log is not the one that the ledger knows: topic, partition and missing offsets are named."""


class TopicRecreated(LogError):
    """The topic was deleted and made again: its offsets start over."""


class LogTruncated(LogError):
    """The log ends before what was already claimed."""


class LogExpired(LogError):
    """Offsets that nobody has claimed yet have left the log."""


@dataclass(frozen=True)
class PartitionLog:
    """A partition now. first: log start; stable_end: last stable offset; at_time: first offset that arrived at the
    window's end or later, None when there is none."""

    topic_id: str
    leader_epoch: int
    first: int
    stable_end: int
    at_time: int | None


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
    to the window's end. claimed: the newest claim of each partition. Returns one claim a partition, empty ones
    included. Raises TopicRecreated, LogTruncated, LogExpired."""
    return [_claim(place, now, claimed.get(place)) for place, now in sorted(log.items())]


def _claim(place: Place, now: PartitionLog, last: Claim | None) -> Claim:
    topic, partition = place
    start = now.first if last is None else last.end
    if last is not None:
        _check_same_log(place, now, last)
    end = now.stable_end if now.at_time is None else min(now.at_time, now.stable_end)
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
    if now.first > last.end:
        raise LogExpired(
            f"{name} starts at offset {now.first}, but {last.end} to {now.first - 1} were never read: "
            f"{now.first - last.end} offsets have expired. See docs/runbook.md (log expired)"
        )
