"""The warehouse, as functions use it: one session a process, one thread at a time, opened again when it is lost."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from include.functions.pushed import Passing

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

# Together less than a subscription's deadline: a message whose function waits for ever is delivered twice.
# LOCK_S is less than NETWORK_S, after which the connector cancels the statement by itself.
LOGIN_S, NETWORK_S, LOCK_S = 5, 8, 6
# errno of what passes: cancelled by a time-out; another transaction has what the statement needs, or had it for LOCK_S.
CANCELLED, LOCKED = 604, 625
SETTING = "MADHATTER_WAREHOUSE"
Row = dict[str, Any]
T = TypeVar("T")


class Session:
    """An open session. Statements have parameters as %(name)s; names of columns come back in lower case."""

    def __init__(self, connection: SnowflakeConnection) -> None:
        self._connection = connection

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            names = [column.name.lower() for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def run(self, sql: str, **parameters: Any) -> int:
        """Returns how many rows the statement changed."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.rowcount or 0


class Warehouse:
    """settings: arguments of snowflake.connector.connect. tag: the QUERY_TAG, by which costs are found."""

    def __init__(self, settings: Mapping[str, Any], tag: str) -> None:
        self._settings, self._tag = settings, json.dumps({"function": tag})
        self._lock = threading.Lock()
        self._connection: SnowflakeConnection | None = None

    def transaction(self, work: Callable[[Session], T]) -> T:
        """What work returns, committed. A session that was lost is opened again, once, and work done again: it must
        bear that, as it must bear a message that comes again. Raises Passing when the warehouse does not answer or
        another transaction is in the way, and what work raises."""
        from snowflake.connector import errors

        with self._lock:
            is_new = self._connection is None
            while True:
                try:
                    return self._committed(self._opened(), work)
                except errors.ProgrammingError as error:
                    # A statement that is wrong stays wrong; one that met another transaction does not.
                    self._drop()
                    if is_new and error.errno not in (CANCELLED, LOCKED):
                        raise
                    failure: Exception = error
                except errors.Error as error:
                    self._drop()
                    failure = error
                if is_new:
                    raise Passing(f"the warehouse does not do it: {failure}") from failure
                is_new = True

    def _committed(self, connection: SnowflakeConnection, work: Callable[[Session], T]) -> T:
        session = Session(connection)
        session.run("begin")
        try:
            done = work(session)
        except BaseException:
            session.run("rollback")
            raise
        session.run("commit")
        return done

    def _opened(self) -> SnowflakeConnection:
        if self._connection is None:
            import snowflake.connector

            logging.getLogger("snowflake.connector").setLevel(logging.ERROR)
            limits = {"login_timeout": LOGIN_S, "network_timeout": NETWORK_S}
            session = {"QUERY_TAG": self._tag, "TIMEZONE": "UTC", "LOCK_TIMEOUT": LOCK_S}
            self._connection = snowflake.connector.connect(
                **{**self._settings, **limits, "session_parameters": session}
            )
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close(retry=False)
            except Exception:
                logging.getLogger(__name__).debug("a lost session does not close", exc_info=True)


@cache
def warehouse(function: str) -> Warehouse:
    """The process's own. Raises SystemExit that names the setting that is missing."""
    try:
        settings = json.loads(os.environ[SETTING])
    except (KeyError, ValueError) as error:
        raise SystemExit(
            f'{function}: {SETTING} is not JSON such as {{"account": "...", "user": "...", "database": "MADHATTER"}}, '
            f"the arguments of snowflake.connector.connect: {error!r}"
        ) from None
    return Warehouse(settings, function)
