"""Everything that must outlive a kill -9, in one SQLite file: topics, subscriptions, what is not acknowledged."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

SCHEMA = """
pragma journal_mode = wal;
pragma synchronous = normal;
create table if not exists resource (name text primary key, kind text not null, body blob not null);
create table if not exists message (id integer primary key, body blob not null, owners integer not null);
create table if not exists delivery (
    subscription text, id integer, attempt integer not null, primary key (subscription, id)
) without rowid;
create table if not exists last_id (id integer not null);
"""
CHECKPOINT_PAGES = 4000


class Store:
    """Writes are gathered and committed together: a request waits for `committed`, not for a commit of its own.

    Raises sqlite3.OperationalError when the file cannot be opened; ends the process when it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma busy_timeout = 1000")
        self._db.executescript(SCHEMA)
        self._db.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._pending: asyncio.Future[None] | None = None
        newest = self._db.execute("select max(id) from (select id from message union all select id from last_id)")
        self.last_id = int(newest.fetchone()[0] or 0)

    def resources(self, kind: str) -> list[bytes]:
        """Topics or subscriptions, serialised."""
        rows = self._db.execute("select body from resource where kind = ? order by name", (kind,))
        return [row[0] for row in rows]

    def deliveries(self, subscription: str) -> Iterator[tuple[int, int, bytes]]:
        """Id, attempt and serialised message of what is not acknowledged, oldest first."""
        yield from self._db.execute(
            "select id, attempt, body from delivery join message using (id) where subscription = ? order by id",
            (subscription,),
        )

    def put(self, kind: str, name: str, body: bytes) -> None:
        """A topic or subscription, new or changed."""
        self._run("insert or replace into resource (name, kind, body) values (?, ?, ?)", (name, kind, body))

    def remove(self, name: str) -> None:
        """A topic; or a subscription with all that it has not delivered."""
        self._run("delete from resource where name = ?", (name,))
        self._run(
            "update message set owners = owners - 1 where id in (select id from delivery where subscription = ?)",
            (name,),
        )
        self._run("delete from delivery where subscription = ?", (name,))
        self._run("delete from message where owners <= 0", ())

    def add(self, message_id: int, body: bytes, subscriptions: list[str]) -> None:
        """A message for these subscriptions; without any only its number is taken."""
        self.last_id = message_id
        if not subscriptions:
            return
        self._run("insert into message values (?, ?, ?)", (message_id, body, len(subscriptions)))
        for name in subscriptions:
            self._run("insert into delivery values (?, ?, 1)", (name, message_id))

    def done(self, subscription: str, message_id: int) -> None:
        """The subscription is done with a message."""
        self._run("delete from delivery where subscription = ? and id = ?", (subscription, message_id))
        self._run("update message set owners = owners - 1 where id = ?", (message_id,))
        self._run("delete from message where id = ? and owners <= 0", (message_id,))

    def attempt(self, subscription: str, message_id: int, attempt: int) -> None:
        """It is to be delivered for the nth time."""
        self._run(
            "update delivery set attempt = ? where subscription = ? and id = ?", (attempt, subscription, message_id)
        )

    async def committed(self) -> None:
        """Returns when all that was written so far would outlive a kill -9."""
        if self._pending is not None:
            await asyncio.shield(self._pending)

    def close(self) -> None:
        self._commit()
        self._db.close()

    def _run(self, sql: str, values: tuple[object, ...]) -> None:
        if self._pending is None:
            self._db.execute("begin immediate")
            loop = asyncio.get_running_loop()
            self._pending = loop.create_future()
            loop.call_soon(self._commit)
        self._db.execute(sql, values)

    def _commit(self) -> None:
        if self._pending is None:
            return
        waiting, self._pending = self._pending, None
        try:
            # Numbers are not given twice, also when no message is left that has the last one.
            self._db.execute("delete from last_id")
            self._db.execute("insert into last_id values (?)", (self.last_id,))
            self._db.execute("commit")
        except sqlite3.Error as error:
            # What is in memory is no longer what is on disk: the next server begins with the disk.
            sys.exit(f"pubsub: {self._path} cannot be written to ({error}): make room, the service starts again")
        if not waiting.cancelled():
            waiting.set_result(None)
