"""What a subscription delivers, to whom and when again. No I/O and no clock of its own: `now` is seconds on one."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

DEFAULT_BACKOFF_S = (10.0, 600.0)  # of a retry policy that leaves them out
DEFAULT_ATTEMPTS = 5


@dataclass(slots=True)
class Delivery:
    """A message of one subscription. message: a PubsubMessage; attempt: of which delivery this is, from 1."""

    id: int
    message: Any
    attempt: int = 1

    @property
    def ack_id(self) -> str:
        return f"{self.id}-{self.attempt}"


@dataclass
class Backlog:
    """The messages of a subscription that nobody has acknowledged.

    ordered: messages of one ordering key go out one after the other. backoff_s: least and most seconds until a message
    that was refused goes out again, None: at once. most_attempts: after so many it is given up, None: never.
    on_done, on_retry, on_given_up: told which message left, which one counts an attempt more, which one is given up."""

    ordered: bool
    backoff_s: tuple[float, float] | None
    most_attempts: int | None
    on_done: Callable[[int], None]
    on_retry: Callable[[Delivery], None]
    on_given_up: Callable[[Delivery], None]
    ready: deque[Delivery] = field(default_factory=deque)
    outstanding: dict[str, tuple[float, Delivery]] = field(default_factory=dict)
    _delayed: list[tuple[float, int, Delivery]] = field(default_factory=list)
    _deadlines: list[tuple[float, str]] = field(default_factory=list)
    _chains: dict[str, deque[Delivery]] = field(default_factory=dict)  # ordering key -> what is under way, what waits
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        waiting = sum(len(chain) - 1 for chain in self._chains.values())
        return len(self.ready) + len(self.outstanding) + len(self._delayed) + waiting

    def add(self, delivery: Delivery) -> None:
        """A message that was published."""
        key = delivery.message.ordering_key if self.ordered else ""
        if key:
            chain = self._chains.setdefault(key, deque())
            chain.append(delivery)
            if len(chain) > 1:
                return
        self.ready.append(delivery)

    def take(self, most: int, now: float, deadline_s: float) -> list[Delivery]:
        """The next messages, theirs for deadline_s."""
        self.advance(now)
        taken: list[Delivery] = []
        while self.ready and len(taken) < most:
            delivery = self.ready.popleft()
            self._until(delivery, now + deadline_s)
            taken.append(delivery)
        return taken

    def ack(self, ack_ids: Iterable[str]) -> None:
        """They are done. What is not out, or went out again since, is left alone."""
        for ack_id in ack_ids:
            if found := self.outstanding.pop(ack_id, None):
                self._leave(found[1])

    def extend(self, ack_id: str, deadline: float) -> None:
        """Theirs until then."""
        if found := self.outstanding.get(ack_id):
            self._until(found[1], deadline)

    def nack(self, ack_id: str, now: float) -> None:
        """To be delivered again, or given up."""
        if (found := self.outstanding.pop(ack_id, None)) is None:
            return
        _, delivery = found
        if self.most_attempts is not None and delivery.attempt >= self.most_attempts:
            self.on_given_up(delivery)
            self._leave(delivery)
            return
        delivery.attempt += 1
        self.on_retry(delivery)
        if self.backoff_s is None:
            self.ready.appendleft(delivery)
            return
        least, most = self.backoff_s
        delay_s = min(most, least * 2 ** min(delivery.attempt - 2, 30))
        heapq.heappush(self._delayed, (now + delay_s, next(self._count), delivery))

    def advance(self, now: float) -> None:
        """What nobody has acknowledged in time, or has waited long enough, is to be delivered again."""
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, ack_id = heapq.heappop(self._deadlines)
            found = self.outstanding.get(ack_id)
            if found and found[0] == deadline:
                self.nack(ack_id, now)
        while self._delayed and self._delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self._delayed)[2])

    def next_change(self) -> float | None:
        """When the clock alone changes something, at the earliest; None: never."""
        times = [heap[0][0] for heap in (self._delayed, self._deadlines) if heap]
        return min(times, default=None)

    def drop_older(self, published_before_s: float) -> int:
        """Forgets messages that were published before (Unix time) and are not out; returns how many."""

        def is_old(delivery: Delivery) -> bool:
            return bool(delivery.message.publish_time.seconds < published_before_s)

        old = [one for one in self.ready if is_old(one)]
        self.ready = deque(one for one in self.ready if not is_old(one))
        for one in old:
            self._leave(one)
        return len(old)

    def _until(self, delivery: Delivery, deadline: float) -> None:
        self.outstanding[delivery.ack_id] = (deadline, delivery)
        heapq.heappush(self._deadlines, (deadline, delivery.ack_id))

    def _leave(self, delivery: Delivery) -> None:
        self.on_done(delivery.id)
        chain = self._chains.get(delivery.message.ordering_key)
        if chain and chain[0] is delivery:
            chain.popleft()
            if chain:
                self.ready.append(chain[0])
            else:
                del self._chains[delivery.message.ordering_key]
