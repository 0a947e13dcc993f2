"""Events that wait on disk for Kafka: one SQLite file a process, synced at each append, bounded in size."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger("collector")

PAGE_BYTES = 4096
SCHEMA = """
create table if not exists event (
    seq integer primary key autoincrement, topic text not null, key blob not null, value blob not null
);
create index if not exists event_topic on event (topic, seq);
create table if not exists refused (
    seq integer primary key, topic text not null, key blob not null, value blob not null, reason text not null
);
"""
Message = tuple[bytes, bytes]  # key, value


class SpoolFull(RuntimeError):
    """The spool has no room: its limit is reached, or the disk is full."""


class Spool:
    """Keeps each topic's messages in the order of their appends. What it has taken survives kill -9 and power loss.

    A folder may serve several processes: each locks the first file that is free and takes over what processes that
    are gone have left in others. Events are personal data: the files are their owner's only, and what is removed is
    overwritten.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        number = 0
        while (opened := _open(folder / f"spool-{number}.sqlite", limit_bytes)) is None:
            number += 1
        self.path, self._connection = folder / f"spool-{number}.sqlite", opened
        for other in sorted(folder.glob("spool-*.sqlite")):
            if other != self.path:
                self._adopt(other, limit_bytes)

    def append(self, topic: str, messages: Sequence[Message]) -> list[int]:
        """Takes all messages or none; they are on the disk when it returns. Returns their numbers, which rise.

        Raises SpoolFull.
        """
        insert = "insert into event (topic, key, value) values (?, ?, ?)"
        with self._transaction() as connection:
            return [int(connection.execute(insert, (topic, *message)).lastrowid or 0) for message in messages]

    def read(self, topic: str, limit: int) -> list[tuple[int, Message]]:
        """The topic's first messages with their numbers, at most limit."""
        query = "select seq, key, value from event where topic = ? order by seq limit ?"
        with self._lock:
            return [(seq, (key, value)) for seq, key, value in self._connection.execute(query, (topic, limit))]

    def remove(self, numbers: Iterable[int]) -> None:
        """Forgets messages that Kafka has."""
        with self._transaction() as connection:
            connection.executemany("delete from event where seq = ?", [(number,) for number in numbers])
        if not self.counts():
            with self._lock:
                self._connection.execute("pragma wal_checkpoint(truncate)")

    def refuse(self, number: int, reason: str) -> None:
        """Sets a message aside that Kafka will never take; it stays in the table `refused`."""
        with self._transaction() as connection:
            connection.execute(
                "insert or replace into refused select seq, topic, key, value, ? from event where seq = ?",
                (reason, number),
            )
            connection.execute("delete from event where seq = ?", (number,))

    def counts(self) -> dict[str, int]:
        """Messages that wait, by topic."""
        with self._lock:
            return dict(self._connection.execute("select topic, count(*) from event group by topic"))

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Any:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
                self._connection.execute("commit")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                    raise SpoolFull(f"the spool {self.path} is full") from error
                raise

    def _adopt(self, file: Path, limit_bytes: int) -> None:
        """Moves what another process left; a crash in between leaves doubles, never a gap."""
        other = _open(file, limit_bytes)
        if other is None:
            return
        rows = other.execute("select topic, key, value from event order by seq")
        try:
            with self._transaction() as connection:
                connection.executemany("insert into event (topic, key, value) values (?, ?, ?)", rows)
            other.execute("delete from event")
        except SpoolFull:
            log.warning("the spool %s has no room for the events of %s: they stay there", self.path, file)
        # The file stays: another process may be about to lock it.
        other.close()


def _open(file: Path, limit_bytes: int) -> sqlite3.Connection | None:
    """The file, locked for this process; None while another process has it. A damaged one is set aside."""
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive: the lock is held as long as the process lives, and no memory is shared, so a network disk will do.
        connection.execute("pragma locking_mode = exclusive")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma secure_delete = on")
        connection.execute(f"pragma max_page_count = {max(1, limit_bytes // PAGE_BYTES)}")
        connection.executescript(SCHEMA)
        connection.execute("begin immediate")
        connection.execute("commit")
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            return None
        raise
    except sqlite3.DatabaseError as error:
        connection.close()
        aside = file.with_suffix(f".damaged-{time.time_ns()}")
        file.rename(aside)
        log.critical("the spool %s is damaged (%s): set aside as %s", file, error, aside.name)
        return _open(file, limit_bytes)
    descriptor = os.open(file.parent, os.O_RDONLY)
    os.fsync(descriptor)  # the file's name, too, is on the disk
    os.close(descriptor)
    return connection
