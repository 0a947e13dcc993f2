"""State of a key that lives in this process, while Beam keeps what is needed to make it again.

A fold takes blobs, one after the other. Beam's bag has those that came since the last dump, and the dump; its version,
a few bytes read with each bundle, tells whether the fold in memory is what the bag says. It is not after a restart, on
another worker, or when a bundle failed half way: then the fold is made anew from the bag.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

DUMP = 0  # kind of a blob: what dump() gave; every other kind is the fold's own
MOST = 5_000  # blobs after a dump: the bag ends by itself, also while the watermark stands and no timer compacts


class Fold(Protocol):
    """What is made of blobs. take() of the same blobs in the same order gives the same state."""

    def take(self, kind: int, blob: bytes) -> Any: ...

    def dump(self) -> bytes: ...

    def load(self, blob: bytes) -> None: ...


F = TypeVar("F", bound=Fold)
_RUN = os.urandom(8)


@dataclass
class _Entry(Generic[F]):
    version: bytes | None
    fold: F
    blobs: int = 0


_entries: dict[tuple[str, str], _Entry[Any]] = {}
_lock = threading.Lock()


def version_spec() -> ReadModifyWriteStateSpec:
    return ReadModifyWriteStateSpec("version", BytesCoder())


def log_spec() -> BagStateSpec:
    return BagStateSpec("log", BytesCoder())


class Held(Generic[F]):
    """A fold that may be changed: by take(), so that Beam's state follows."""

    def __init__(self, fold: F, known: bytes | None, version: Any, log: Any, blobs: int = 0) -> None:
        self.fold, self.written, self._version, self._log, self.blobs = fold, known, version, log, blobs
        self.number = int.from_bytes(known[8:], "big") if known else 0

    @property
    def is_new(self) -> bool:
        """Whether the key had no state."""
        return self.number == 0

    def take(self, kind: int, blob: bytes) -> Any:
        """Lets the fold take a blob and keeps the blob; returns what the fold returns."""
        self._next()
        # A bag has no order of its own.
        self._log.add(self.number.to_bytes(8, "big") + bytes([kind]) + blob)
        found = self.fold.take(kind, blob)
        self.blobs += 1
        if self.blobs >= MOST:
            self.compact()
        return found

    def compact(self) -> None:
        """Replaces all blobs by one dump."""
        self.blobs = 0
        self._log.clear()
        self._next()
        self._log.add(self.number.to_bytes(8, "big") + bytes([DUMP]) + self.fold.dump())

    def forget(self) -> None:
        """Removes the state."""
        self._log.clear()
        self._version.clear()
        self.written = None

    def _next(self) -> None:
        self.number += 1
        self.written = _RUN + self.number.to_bytes(8, "big")


@contextmanager
def held(step: str, key: object, make: Callable[[], F], version: Any, log: Any) -> Iterator[Held[F]]:
    """A key's fold for the time of a bundle's element or timer. version, log: Beam's state by version_spec() and
    log_spec(). What fails inside leaves the fold to be made anew."""
    place = (step, str(key))
    known = version.read() or None
    with _lock:
        entry = _entries.pop(place, None)
    if entry is None or entry.version != known:
        entry = _Entry(known, _made(make(), log) if known else make())
    open_ = Held(entry.fold, known, version, log, entry.blobs)
    yield open_
    if open_.written is None:
        return
    if open_.written != known:
        version.write(open_.written)
    with _lock:
        _entries[place] = _Entry(open_.written, entry.fold, open_.blobs)


def _made(fold: F, log: Any) -> F:
    for blob in sorted(log.read()):
        kind, content = blob[8], blob[9:]
        if kind == DUMP:
            fold.load(content)
        else:
            fold.take(kind, content)
    return fold
