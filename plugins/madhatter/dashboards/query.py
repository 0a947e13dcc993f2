"""The warehouse as dashboards see it: read-only questions with bound values, a few connections kept open."""

from __future__ import annotations

import datetime as dt
import json
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from queue import Empty, Full, LifoQueue
from threading import Thread
from typing import Any

log = logging.getLogger(__name__)

CONNECTION_ID = "snowflake_default"
STATEMENT_TIMEOUT_S = 15
LOGIN_TIMEOUT_S = 5
MAX_ROWS = 10_000
_POOL_SIZE = 4
_NO_ANSWER = "The warehouse does not answer. Check that it runs (`make status`)."


class WarehouseDown(Exception):
    """The warehouse cannot be reached or does not answer. The text is for the reader of the page."""


class StatementFailed(Exception):
    """The warehouse refused a statement. The text is its own message."""


@dataclass(frozen=True)
class Table:
    """columns: ((name in lower case, type), ...), type one of number, text, date, time, bool; rows: JSON-ready tuples.

    Times are in UTC and end in Z.
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]


class Warehouse:
    """Up to four open sessions of Airflow's connection `snowflake_default`; one that failed is closed for good."""

    def __init__(self) -> None:
        self._idle: LifoQueue[Any] = LifoQueue(_POOL_SIZE)

    def ask(self, statement: str, values: Sequence[Any], tag: str) -> Table:
        """Rows of a SELECT, `?` bound to values. tag: for the query history. Raises WarehouseDown, StatementFailed."""
        connection = self._open()
        if connection is not None:
            try:
                return self._run(connection, statement, values, tag)
            except WarehouseDown:
                # The session is older than the last restart of the warehouse: a new one may work.
                self.close()
        return self._run(self._connect(), statement, values, tag)

    def _open(self) -> Any:
        """An idle session, or None. If nobody listens any more, all are let go: the connector would knock for 15 s."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            return None
        if connection.proxy_host or _listens(connection.host, int(connection.port)):
            return connection
        _close(connection)
        self.close()
        return None

    def close(self) -> None:
        """Close what is open and idle."""
        while True:
            try:
                _close(self._idle.get_nowait())
            except Empty:
                return

    def _connect(self) -> Any:
        from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook
        from airflow.sdk.exceptions import AirflowException
        from snowflake.connector import connect
        from snowflake.connector.errors import Error

        hook = SnowflakeHook(
            snowflake_conn_id=CONNECTION_ID,
            session_parameters={
                "QUERY_TAG": json.dumps({"app": "dashboards"}),
                "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_S,
            },
        )
        try:
            # qmark: values travel beside the statement and are bound by the warehouse; they are never part of its text.
            return connect(
                **{
                    **hook._get_conn_params(),
                    "paramstyle": "qmark",
                    "login_timeout": LOGIN_TIMEOUT_S,
                    # Also the connector's own limit for a statement: it sends an abort after this time.
                    "network_timeout": STATEMENT_TIMEOUT_S,
                    "socket_timeout": STATEMENT_TIMEOUT_S + 5,
                    "client_session_keep_alive": False,
                }
            )
        except Error as error:
            log.warning("dashboards cannot connect to the warehouse: %s", error)
            raise WarehouseDown(_NO_ANSWER) from error
        except AirflowException as error:
            raise WarehouseDown(f"Airflow's connection `{CONNECTION_ID}` cannot be used: {error}") from error

    def _run(self, connection: Any, statement: str, values: Sequence[Any], tag: str) -> Table:
        from snowflake.connector.errors import DatabaseError, Error, OperationalError, ProgrammingError

        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, tuple(values), _statement_params={"QUERY_TAG": tag})
                described = cursor.description
                rows = cursor.fetchmany(MAX_ROWS + 1)
        except (ProgrammingError, DatabaseError) as error:
            if isinstance(error, OperationalError) or _session_is_gone(error):
                _close(connection)
                raise WarehouseDown(_NO_ANSWER) from error
            self._keep(connection)
            raise StatementFailed(str(error.msg or error)) from error
        except (Error, OSError) as error:
            _close(connection)
            raise WarehouseDown(_NO_ANSWER) from error
        self._keep(connection)
        if len(rows) > MAX_ROWS:
            raise StatementFailed(f"more than {MAX_ROWS:,} rows: aggregate in the dataset's SQL")
        kinds = tuple((column.name.lower(), _kind(column.type_code)) for column in described)
        return Table(kinds, tuple(tuple(_plain(value) for value in row) for row in rows))

    def _keep(self, connection: Any) -> None:
        try:
            self._idle.put_nowait(connection)
        except Full:
            _close(connection)


def _close(connection: Any) -> None:
    """Closing tells the warehouse, with retries: a reader must not wait for that, least of all when it is down."""

    def close() -> None:
        try:
            connection.close(retry=False)
        except Exception as error:
            log.debug("closing a warehouse connection: %s", error)

    Thread(target=close, name="dashboards-close", daemon=True).start()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def _session_is_gone(error: Any) -> bool:
    # 390xxx: the session or its token has expired or is unknown, as after a restart of the server.
    return 390000 <= int(getattr(error, "errno", 0) or 0) < 391000


def _kind(type_code: int) -> str:
    """The connector's FIELD_TYPES, reduced to what a chart has to know."""
    from snowflake.connector.constants import FIELD_ID_TO_NAME

    name = FIELD_ID_TO_NAME[type_code]
    if name in ("FIXED", "REAL", "DECFLOAT"):
        return "number"
    if name == "DATE":
        return "date"
    if name.startswith("TIMESTAMP"):
        return "time"
    return "bool" if name == "BOOLEAN" else "text"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    if isinstance(value, dt.datetime):
        moment = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
        return moment.isoformat(timespec="seconds") + "Z"
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    return value
