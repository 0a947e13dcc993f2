"""The warehouse: SQL files of include/sql run over one connection, in transactions that end for certain."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.sql import bound, statements

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

CONNECTION = "snowflake_default"
LOCK_TIMEOUT_S = 600
STATEMENT_TIMEOUT_S = 1800

Row = dict[str, Any]


class WarehouseDown(ConnectionError):
    """The warehouse does not answer."""


class Warehouse:
    """An open session. Rows come back as dicts with lower-case names."""

    def __init__(self, connection: SnowflakeConnection) -> None:
        self.connection = connection

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        """Runs one statement; :name in it is bound to the parameter of that name. Raises ProgrammingError."""
        with self.connection.cursor() as cursor:
            _execute(cursor, sql, parameters)
            names = [column.name.lower() for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def table(self, sql: str, **parameters: Any) -> pa.Table:
        """The rows of one query as columns, with lower-case names; without rows they have no types."""
        import pyarrow as pa

        with self.connection.cursor() as cursor:
            _execute(cursor, sql, parameters)
            names = [column.name.lower() for column in cursor.description or ()]
            if not cursor.rowcount:
                return pa.table({name: pa.nulls(0) for name in names})
            return cursor.fetch_arrow_all(force_return_table=True).rename_columns(names)

    def run(self, sql: str, **parameters: Any) -> int:
        """Runs one statement and returns how many rows it changed."""
        with self.connection.cursor() as cursor:
            _execute(cursor, sql, parameters)
            return cursor.rowcount or 0

    def run_file(self, name: str, **parameters: Any) -> None:
        """Runs the statements of include/sql/`name` in order."""
        for statement in statements(name):
            self.run(statement, **parameters)

    def rows_of_file(self, name: str, **parameters: Any) -> list[Row]:
        """The rows of a file with one query."""
        (statement,) = statements(name)
        return self.rows(statement, **parameters)

    def table_of_file(self, name: str, **parameters: Any) -> pa.Table:
        """The rows of a file with one query, as columns."""
        (statement,) = statements(name)
        return self.table(statement, **parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits at the end; on any error rolls back and raises it."""
        self.run("begin")
        try:
            yield
        except BaseException:
            self.run("rollback")
            raise
        self.run("commit")

    def close(self) -> None:
        self.connection.close()


@contextmanager
def session(context: Context | None = None, conn_id: str = CONNECTION) -> Iterator[Warehouse]:
    """A session tagged with the running task, closed at the end. An open transaction is rolled back."""
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook
    from snowflake.connector.errors import OperationalError

    logging.getLogger("snowflake.connector").setLevel(logging.WARNING)
    tag = {}
    if context is not None:
        ti = context["ti"]
        tag = {"dag": ti.dag_id, "task": ti.task_id, "run": ti.run_id}
    hook = SnowflakeHook(
        snowflake_conn_id=conn_id,
        session_parameters={
            "QUERY_TAG": json.dumps(tag),
            "TIMEZONE": "UTC",
            "LOCK_TIMEOUT": LOCK_TIMEOUT_S,
            "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_S,
        },
    )
    try:
        warehouse = Warehouse(hook.get_conn())
    except OperationalError as error:
        raise WarehouseDown(
            f"the warehouse of connection {conn_id} does not answer ({error.msg}): see `make status` on a laptop, else "
            "the connection's account, network and login"
        ) from error
    try:
        yield warehouse
    finally:
        warehouse.close()


def _execute(cursor: SnowflakeCursor, sql: str, parameters: dict[str, Any]) -> None:
    # Without parameters the connector formats nothing, and a doubled % would reach the warehouse.
    if parameters:
        cursor.execute(bound(sql), parameters)
    else:
        cursor.execute(sql)


def json_list(values: list[str]) -> str:
    """A list as one parameter, for `parse_json(:hours)`."""
    return json.dumps(values)


def touched_days(hours: list[str]) -> list[str]:
    """Days (ISO) of event hours (ISO), each once, in order."""
    return sorted({hour[:10] for hour in hours})
