"""What a rule is. Rules know nothing of Beam, Kafka or clocks: rows come in, what was found goes out.

What a rule finds is a function of the log and the snapshot. It does not depend on how partitions are interleaved (the
rows of one come in log order), on rows that come twice, or on where a state is stored and read again. It depends on no
row that arrived more than HORIZON_S before, so that a job may begin anew that much earlier: what it finds from the
starting point on is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

from include.beam.snapshot import Snapshot

# An event that arrives later than this after its time is late to the stream; rules do not see it (but see TAKES_LATE).
LATENESS_MS = 60_000
# A sender's clock may be ahead of arrival by this much: all contracts say so.
AHEAD_MS = 300_000
MOST_HORIZON_S = 2_100


class Found(NamedTuple):
    """What will be a signal. kind, subject, event_id name it; event_ms, arrival_ms: of that event. features: JSON
    values, docs/contracts/signals.md. decided_ms: the moment in the log (arrival time) from which it was certain; a job
    that began anew leaves out what was decided before its starting point, as it had not yet seen enough."""

    kind: str
    subject: str
    event_id: str
    event_ms: int
    arrival_ms: int
    features: dict[str, Any]
    decided_ms: int


class Rule(ABC):
    """The state of one shard of one rule, and what it finds. ROW: its row type. HORIZON_S: seconds for which a row may
    matter after its arrival. TAKES_LATE: whether it is to get rows that are late to the stream too."""

    NAME: ClassVar[str]
    KINDS: ClassVar[tuple[str, ...]]
    ROW: ClassVar[type]
    HORIZON_S: ClassVar[int]
    TAKES_LATE: ClassVar[bool] = False

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot

    @abstractmethod
    def keys(self, row: Any) -> Iterable[str]:
        """The keys whose state the row touches, such as `customer:17850`; none: it is of no interest. A function of the
        row (and the snapshot) alone."""

    @abstractmethod
    def observe(self, key: str, row: Any) -> list[Found]:
        """What the row brings to light under one of its keys."""

    def advance(self, watermark_ms: int) -> list[Found]:  # noqa: ARG002
        """What is decided now that nothing that arrived before the watermark is still to come."""
        return []

    def forget(self, before_ms: int) -> None:  # noqa: B027
        """Drops what only matters to events before this time. To be called with at most the watermark less HORIZON_S,
        after advance() with that watermark."""

    @abstractmethod
    def dump(self) -> bytes:
        """The state; what load() takes."""

    @abstractmethod
    def load(self, state: bytes) -> None:
        """Takes the place of the present state."""
