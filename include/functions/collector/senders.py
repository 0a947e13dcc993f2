"""Who sends: found by the API key, and held to a rate."""

from __future__ import annotations

import hashlib
import hmac
import math
import threading
import time
from collections.abc import Mapping

from include.functions.collector.settings import MAX_EVENTS, Sender


class Senders:
    """The known senders. rate: events a second for each, on average; two seconds' worth may come at once."""

    def __init__(self, senders: Mapping[str, Sender], rate: float) -> None:
        self._digests = {name: _digest(sender.key) for name, sender in senders.items()}
        self._topics = {name: frozenset(sender.topics) for name, sender in senders.items()}
        self._rate, self._most = rate, max(2 * rate, float(MAX_EVENTS))
        self._lock = threading.Lock()
        self._buckets = {name: (self._most, time.monotonic()) for name in senders}

    def find(self, key: str) -> str | None:
        """The sender's name. Takes the same time whichever key it is, and whether there is one."""
        digest, found = _digest(key), None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def may_send(self, sender: str, topic: str) -> bool:
        return topic in self._topics[sender]

    def wait_s(self, sender: str, events: int) -> int:
        """0, and the events are counted; or the whole seconds after which they may come."""
        with self._lock:
            left, at = self._buckets[sender]
            now = time.monotonic()
            left = min(self._most, left + (now - at) * self._rate)
            is_free = left >= events
            self._buckets[sender] = (left - events if is_free else left, now)
            return 0 if is_free else math.ceil((events - left) / self._rate)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
