"""One client's session: its parameters, its transaction, and how each kind of statement goes with them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot import exp

from local.snowflake.bindings import parameters
from local.snowflake.cursor import Cursor, inline_variables
from local.snowflake.errors import error, from_exception
from local.snowflake.locks import Mode, Table, TableLocks
from local.snowflake.results import Result, payload, status
from local.snowflake.settings import Settings
from local.snowflake.statements import Kind, Statement, parse
from local.snowflake.transaction import Transaction
from local.snowflake.warehouse import Warehouse

_SUCCESS = "Statement executed successfully."


class Session:
    """Runs one statement at a time, from any thread. last_seen: monotonic seconds of the last request."""

    def __init__(
        self, warehouse: Warehouse, locks: TableLocks, database: str | None, schema: str | None, given: dict[str, Any]
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        self.last_seen = time.monotonic()
        self.address: tuple[str, int] | None = None  # of the client's TCP connection that sent the last request
        self._warehouse = warehouse
        self._locks = locks
        self._settings = Settings()
        for name, value in given.items():
            self._settings.set(name, value)
        self._connection = warehouse.connect(database, schema)
        self._duck: duckdb.DuckDBPyConnection = self._connection._duck_conn
        self._transaction = Transaction(self._duck, locks, self.token)
        self._running = threading.Lock()

    @property
    def names(self) -> dict[str, str | None]:
        """Its current database and schema."""
        schema = self._connection.schema if self._connection.schema_set else None
        return {"databaseName": self._connection.database, "schemaName": schema}

    @property
    def autocommit(self) -> bool:
        """Does each statement outside of BEGIN commit?"""
        return self._settings.autocommit

    def execute(self, text: str, bindings: dict[str, dict[str, Any]] | None, describe_only: bool) -> dict[str, Any]:
        """Run a statement; returns the response's `data`. Raises snowflake.connector.errors.ProgrammingError."""
        with self._running:
            self.last_seen = time.monotonic()
            try:
                with self._time_limit():
                    result = self._statement(inline_variables(self._connection, text), bindings, describe_only)
                    names = self.names
                    final = {"finalDatabaseName": names["databaseName"], "finalSchemaName": names["schemaName"]}
                    return payload(result) | final
            except Exception as e:
                raise from_exception(e, text) from e
            finally:
                self.last_seen = time.monotonic()

    def cancel(self) -> None:
        """Stop the statement that is running, if one is."""
        self._locks.cancel(self.token)
        self._duck.interrupt()

    def lose_transaction(self, why: str, idle_s: float) -> None:
        """Roll back the open transaction of a session that has been idle for idle_s."""
        if self._running.acquire(blocking=False):
            try:
                if self._transaction.is_open and time.monotonic() - self.last_seen >= idle_s:
                    self._transaction.lose(why)
            finally:
                self._running.release()

    def close(self) -> None:
        """Roll back and end the session."""
        with self._running:
            self._transaction.rollback()
            self._connection.close()

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        limit_s = self._settings.statement_timeout_s
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.cancel()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        if limit_s < threading.TIMEOUT_MAX:
            timer.start()
        try:
            yield
        except Exception:
            if late.is_set():
                raise error(
                    630, "57014", f"Statement reached its statement or warehouse timeout of {limit_s:g} second(s) and "
                    "was canceled.",
                ) from None  # fmt: skip
            raise
        finally:
            timer.cancel()
            self._locks.resume(self.token)

    def _statement(self, text: str, bindings: dict[str, dict[str, Any]] | None, describe_only: bool) -> Result:
        statement = parse(text)
        params, rows = parameters(bindings)
        if describe_only:
            return self._describe(statement)
        match statement.kind:
            case Kind.QUERY:
                return self._transaction.read(partial(self._run, statement, params))
            case Kind.DML:
                return self._change(statement, params, rows)
            case Kind.BEGIN:
                self._transaction.begin()
            case Kind.COMMIT:
                self._transaction.commit()
            case Kind.ROLLBACK:
                self._transaction.rollback()
            case Kind.NO_OP:
                self._transaction.commit()  # on Snowflake it is DDL
            case Kind.DDL:
                return self._define(statement, params)
            case Kind.SESSION:
                return self._set(statement, params)
        return status(_SUCCESS, statement.type_id)

    def _run(self, statement: Statement, params: list[Any] | None) -> Result:
        return Cursor(self._connection).run(statement, params)

    def _run_rows(self, statement: Statement, rows: list[list[Any]]) -> Result:
        results = [self._run(statement, row) for row in rows]
        affected = sum(result.affected or 0 for result in results)
        last = results[-1]
        first = last.table.column_names[0]
        return Result(last.table.set_column(0, first, [[affected]]), last.columns, last.type_id, affected)

    def _change(self, statement: Statement, params: list[Any] | None, rows: list[list[Any]] | None) -> Result:
        if not self._settings.autocommit:
            self._transaction.begin()
        run = partial(self._run, statement, params) if rows is None else partial(self._run_rows, statement, rows)
        where = (self._connection.database, self._connection._schema)

        def work() -> Result:
            # done again later, the statement must find the schema that was current when it was sent
            now = (self._connection.database, self._connection._schema)
            if now == where:
                return run()
            self._use(*where)
            try:
                return run()
            finally:
                self._use(*now)

        assert statement.mode is not None
        return self._transaction.write(work, self._locked(statement), statement.mode, self._patience_s())

    def _define(self, statement: Statement, params: list[Any] | None) -> Result:
        self._transaction.commit()  # DDL commits what is open, even if it then fails
        table = self._locked(statement)
        try:
            if table is not None:
                self._locks.acquire(self.token, table, Mode.DDL, self._patience_s())
            with self._warehouse.ddl:
                result = self._run(statement, params)
                created = statement.expression
                if isinstance(created, exp.Create) and created.kind == "DATABASE":
                    self._warehouse.prepare(created.this.name.upper())
            return result
        finally:
            self._locks.release(self.token)

    def _set(self, statement: Statement, params: list[Any] | None) -> Result:
        e = statement.expression
        if isinstance(e, exp.Alter):
            was = self._settings.autocommit
            self._settings.alter(e)
            if self._settings.autocommit != was:
                self._transaction.commit()
            return status(_SUCCESS, statement.type_id)
        self._transaction.check()
        result = self._run(statement, params)
        if isinstance(e, exp.Use) and e.text("kind").upper() == "DATABASE":
            self._use(self._connection.database, "PUBLIC")
            self._connection.schema_set = True
        return result

    def _describe(self, statement: Statement) -> Result:
        if statement.kind is not Kind.QUERY:
            return status(_SUCCESS, statement.type_id)
        columns = Cursor(self._connection).columns(statement)
        empty = pa.Table.from_arrays([pa.array([], pa.string())] * len(columns), names=[name for name, _ in columns])
        return Result(empty, columns, statement.type_id)

    def _locked(self, statement: Statement) -> Table | None:
        if statement.target is None:
            return None
        t = statement.target
        names = (t.catalog or self._connection.database, t.db or self._connection.schema, t.name)
        return (str(names[0]).upper(), str(names[1]).upper(), str(names[2]).upper())

    def _patience_s(self) -> float:
        return min(self._settings.lock_timeout_s, self._settings.statement_timeout_s)

    def _use(self, database: str | None, schema: str | None) -> None:
        self._duck.execute(f"SET schema = '{database}.{schema or 'main'}'")
        self._connection.database, self._connection._schema = database, schema
