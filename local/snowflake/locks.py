"""Table locks with Snowflake's rules: writers of rows wait for each other, inserts for nobody, DDL for all."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from enum import Enum

from local.snowflake.errors import error

Table = tuple[str, str, str]


class Mode(Enum):
    """INSERT: INSERT and COPY add partitions. UPDATE: UPDATE, DELETE, MERGE change them. DDL: the table itself."""

    INSERT = "insert"
    UPDATE = "update"
    DDL = "ddl"


_COMPATIBLE = {frozenset({Mode.INSERT}), frozenset({Mode.INSERT, Mode.UPDATE})}


class TableLocks:
    """Locks by (database, schema, table), held by a session until its transaction ends."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[Table, dict[str, set[Mode]]] = defaultdict(dict)
        self._waits_for: dict[str, set[str]] = {}
        self._cancelled: set[str] = set()

    def acquire(self, session: str, table: Table, mode: Mode, timeout_s: float) -> bool:
        """Take the lock; True if it had to wait. Raises errno 625 after timeout_s or when waiting would never end."""
        deadline = time.monotonic() + timeout_s
        waited = False
        with self._changed:
            try:
                while blockers := self._blockers(session, table, mode):
                    waited = True
                    self._waits_for[session] = blockers
                    if session in self._cancelled:
                        raise error(604, "57014", "SQL execution canceled")
                    if self._is_deadlock(session):
                        raise _locked(table, "waiting for it would be a deadlock")
                    if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                        raise _locked(table, f"LOCK_TIMEOUT is {timeout_s:g} seconds")
            finally:
                self._waits_for.pop(session, None)
            self._held[table].setdefault(session, set()).add(mode)
        return waited

    def release(self, session: str) -> None:
        """Give up all locks of a session."""
        with self._changed:
            for table in list(self._held):
                self._held[table].pop(session, None)
                if not self._held[table]:
                    del self._held[table]
            self._changed.notify_all()

    def cancel(self, session: str) -> None:
        """Let a session that waits give up, until `resume`."""
        with self._changed:
            self._cancelled.add(session)
            self._changed.notify_all()

    def resume(self, session: str) -> None:
        """Let it wait again."""
        with self._changed:
            self._cancelled.discard(session)

    def is_blocking(self, session: str) -> bool:
        """Does anybody wait for this session?"""
        with self._changed:
            return any(session in blockers for blockers in self._waits_for.values())

    def _blockers(self, session: str, table: Table, mode: Mode) -> set[str]:
        holders = self._held.get(table, {})
        return {
            other
            for other, modes in holders.items()
            if other != session and any(frozenset({mode, held}) not in _COMPATIBLE for held in modes)
        }

    def _is_deadlock(self, session: str) -> bool:
        seen: set[str] = set()
        todo = set(self._waits_for[session])
        while todo:
            other = todo.pop()
            if other == session:
                return True
            if other not in seen:
                seen.add(other)
                todo |= self._waits_for.get(other, set())
        return False


def _locked(table: Table, why: str) -> Exception:
    return error(
        625,
        "57014",
        f"Table {'.'.join(table)} is locked by another transaction that has not ended ({why}). "
        "The statement was aborted; commit or roll back the other transaction, or raise LOCK_TIMEOUT.",
    )
