"""A session's transaction: READ COMMITTED, and usable after a failed statement, on DuckDB, which has neither.

DuckDB's transaction begins with the first write, once the table's lock is there: what was read before, and what others
committed while it waited, is current. It keeps what it wrote in a list: DuckDB gives up a transaction at the first
error, Snowflake only the statement, so the earlier ones are done again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import duckdb

from local.snowflake.errors import error
from local.snowflake.locks import Mode, Table, TableLocks
from local.snowflake.results import Result

Work = Callable[[], Result]


@dataclass(frozen=True)
class _Write:
    work: Work
    affected: int | None


class Transaction:
    """BEGIN .. COMMIT of one session. Not thread-safe: the session runs one statement at a time."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, locks: TableLocks, session: str) -> None:
        self._duck = duck
        self._locks = locks
        self._session = session
        self._writes: list[_Write] = []
        self._is_started = False
        self._lost: str | None = None
        self.is_open = False

    def begin(self) -> None:
        """Open it; nothing if it is open, as on Snowflake."""
        self.is_open = True

    def check(self) -> None:
        """Raises if it was rolled back by the server, until the client says ROLLBACK."""
        if self._lost:
            raise error(625, "57014", f"The transaction was rolled back: {self._lost}. Send ROLLBACK, then repeat it.")

    def commit(self) -> None:
        """End it; all writes stay. Raises if they cannot, with nothing written and the transaction closed."""
        try:
            self.check()
            if self._is_started:
                self._duck.execute("COMMIT")
                self._is_started = False
        finally:
            self.rollback()

    def rollback(self) -> None:
        """End it; no write stays."""
        self._undo()
        self._writes.clear()
        self._lost = None
        self.is_open = False
        self._locks.release(self._session)

    def lose(self, why: str) -> None:
        """Roll back for a client that is gone; one that comes back is told so by its next statement."""
        if self.is_open:
            self.rollback()
            self.is_open, self._lost = True, why

    def read(self, work: Work) -> Result:
        """Run a query: on what is committed now, or inside the transaction once it has written."""
        self.check()
        try:
            return work()
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
            raise  # found before anything ran: DuckDB keeps the transaction
        except Exception:
            if self._is_started:
                self._redo()
            raise

    def write(self, work: Work, table: Table | None, mode: Mode, timeout_s: float) -> Result:
        """Run a DML statement, all of it or nothing; by itself if no transaction is open."""
        self.check()
        waited = table is not None and self._locks.acquire(self._session, table, mode, timeout_s)
        try:
            if waited and self._is_started:
                self._redo()  # on what the others have committed meanwhile
            try:
                result = self._attempt(work)
            except duckdb.TransactionException:
                result = self._attempt(work)  # a conflict with what was committed since this transaction began
            if self.is_open:
                self._writes.append(_Write(work, result.affected))
            else:
                self._duck.execute("COMMIT")
                self._is_started = False
            return result
        finally:
            if not self.is_open:
                self.rollback()

    def _attempt(self, work: Work) -> Result:
        if not self._is_started:
            self._duck.execute("BEGIN")
            self._is_started = True
        try:
            return work()
        except Exception:
            self._redo()
            raise

    def _redo(self) -> None:
        """Take back a failed statement by doing the earlier ones again, on what is committed now."""
        self._undo()
        if not self._writes:
            return
        self._duck.execute("BEGIN")
        self._is_started = True
        for number, write in enumerate(self._writes, 1):
            try:
                affected = write.work().affected
            except Exception as e:
                self.lose(f"a statement failed, and doing write {number} of the transaction again failed too: {e}")
                self.check()
            if affected != write.affected:
                self.lose(
                    f"a statement failed, and write {number} of the transaction, done again, changed {affected} rows"
                    f" instead of {write.affected}"
                )
                self.check()

    def _undo(self) -> None:
        if self._is_started:
            self._is_started = False
            with suppress(duckdb.TransactionException):  # a failed COMMIT has ended it already
                self._duck.execute("ROLLBACK")
