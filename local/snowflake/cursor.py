"""Run one parsed statement on DuckDB by fakesnow's rewrites, with this package's own where fakesnow's differ."""

from __future__ import annotations

import copy as copying
import re
import threading
import warnings
from collections import OrderedDict
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

from local.snowflake import rewrite
from local.snowflake.copy_into import COLUMNS, copy_into, forget
from local.snowflake.errors import error, refused
from local.snowflake.merge import merge
from local.snowflake.results import Result, status
from local.snowflake.statements import AFFECTS_ROWS, TRANSLATED_ONCE, Kind, Statement

warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")


class Translated(NamedTuple):
    """A statement as DuckDB takes it."""

    expression: Expr
    has_params: bool


class _Translations:
    """The last ones that were used, for all sessions."""

    MOST = 400

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, str], Translated] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: tuple[str, str, str]) -> Translated | None:
        with self._lock:
            if (found := self._known.get(place)) is not None:
                self._known.move_to_end(place)
            return found

    def put(self, place: tuple[str, str, str], translated: Translated) -> None:
        with self._lock:
            self._known[place] = translated
            if len(self._known) > self.MOST:
                self._known.popitem(last=False)


_translated = _Translations()


class Cursor(FakeSnowflakeCursor):  # type: ignore[misc]
    """One statement on a session's DuckDB connection; the caller owns the transaction."""

    def __init__(self, connection: FakeSnowflakeConnection) -> None:
        super().__init__(connection, connection._duck_conn)
        self._columns: list[tuple[str, str]] = []

    def run(self, statement: Statement, params: list[Any] | None) -> Result:
        """Run it. params: values for its `?`. Raises DuckDB's and fakesnow's errors as they are."""
        # What a statement becomes follows from its text and where it is sent: seventy walks through its tree, once.
        place = (statement.text, str(self._conn.database), str(self._conn.schema))
        if (known := _translated.get(place)) is not None:
            self._execute(known.expression, copying.copy(params) if known.has_params else None)
            return self._result(statement)
        expression = rewrite.before(statement.expression.copy())
        if isinstance(expression, exp.TruncateTable) and expression.args.get("exists"):
            return self._truncate_if_exists(statement, expression)
        self.check_db_and_schema(expression)
        parts = self._transform_explode(expression)
        for part in parts:
            left = copying.copy(params)
            transformed = rewrite.after(self._transform(part, left))
            has_params = bool(transformed.find(exp.Placeholder))
            self._execute(transformed, left if has_params else None)
            if len(parts) == 1 and left == params and statement.type_id in TRANSLATED_ONCE:
                _translated.put(place, Translated(transformed, has_params))
        for table in _emptied(expression):
            forget(self._duck_conn, table, str(self._conn.database), str(self._conn.schema))
        return self._result(statement)

    def _result(self, statement: Statement) -> Result:
        self._conn.results_cache.clear()  # nothing reads it: RESULT_SCAN would need the id of a query of this session
        if statement.kind is Kind.DDL and [name for name, _ in self._columns] != ["status"]:
            return status("Statement executed successfully.", statement.type_id)
        affected = self._rowcount if statement.type_id in AFFECTS_ROWS else None
        return Result(self._arrow_table, self._columns, statement.type_id, affected)

    def columns(self, statement: Statement) -> list[tuple[str, str]]:
        """Names and DuckDB types of a query's columns, without running it."""
        unbound = statement.expression.transform(lambda e: exp.null() if isinstance(e, exp.Placeholder) else e)
        transformed = rewrite.after(self._transform(rewrite.before(unbound), None))
        described = self._duck_conn.execute(f"DESCRIBE {transformed.sql(dialect='duckdb')}").fetchall()
        return [(name, kind) for name, kind, *_ in described]

    def _truncate_if_exists(self, statement: Statement, expression: exp.TruncateTable) -> Result:
        expression.set("exists", False)  # DuckDB's TRUNCATE has no IF EXISTS
        try:
            return self.run(replace(statement, expression=expression), None)
        except ProgrammingError as e:
            if e.errno != 2003:
                raise
            return status("Statement executed successfully.", statement.type_id)

    def _transform_explode(self, expression: Expr) -> list[Expr]:
        return [expression] if isinstance(expression, exp.Merge) else super()._transform_explode(expression)

    def _execute(self, transformed: Expr, params: Any = None) -> None:
        if isinstance(transformed, exp.Merge):
            counts = merge(self._duck_conn, transformed, params)
            names = {f"number of rows {operation}": count for operation, count in counts.items()}
            self._answer(pa.table({name: [count] for name, count in names.items()}), [(n, "BIGINT") for n in names])
            self._rowcount = sum(counts.values())
        elif isinstance(transformed, exp.Copy):
            rows = copy_into(self._duck_conn, transformed, str(self._conn.database), str(self._conn.schema))
            if not rows:
                self._answer(pa.table({"status": ["Copy executed with 0 files processed."]}), [("status", "VARCHAR")])
                return
            kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64()}
            arrays = [pa.array(values, kinds[kind]) for values, (_, kind) in zip(zip(*rows), COLUMNS)]
            self._answer(pa.table(arrays, names=[name for name, _ in COLUMNS]), COLUMNS)
        else:
            if isinstance(transformed, exp.Command) and transformed.name.upper() == "SHOW":
                raise refused(transformed.sql(dialect="snowflake"))
            super()._execute(transformed, params)
            self._columns = [(d[0], str(d[1])) for d in self._duck_conn.description or []]

    def _answer(self, table: pa.Table, columns: list[tuple[str, str]]) -> None:
        self._arrow_table, self._columns, self._rowcount = table, columns, table.num_rows


def _emptied(e: Expr) -> list[exp.Table]:
    """The tables whose load history a DDL statement ends."""
    is_new = isinstance(e, exp.Create) and not e.args.get("exists")
    is_table = is_new or isinstance(e, exp.Drop)
    if isinstance(e, exp.TruncateTable) or (is_table and e.args.get("kind") == "TABLE"):
        return list(e.find_all(exp.Table))[: 1 if is_new else None]  # the others of a CREATE are its sources
    return []


_LITERAL_OR_VARIABLE = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"[^\"]*\"|\$\$.*?\$\$|--[^\n]*|/\*.*?\*/|(?<![\w$])\$([A-Za-z_]\w*)", re.DOTALL
)


def inline_variables(connection: FakeSnowflakeConnection, text: str) -> str:
    """Replace $name by the session variable, but not inside literals as fakesnow would."""
    if "$" not in text:
        return text
    values = {name.upper(): value for name, value in connection.variables._variables.items()}

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return match.group()
        if name.upper() not in values:
            raise error(904, "42000", f"SQL compilation error: Session variable '${name.upper()}' does not exist.")
        return str(values[name.upper()])

    return _LITERAL_OR_VARIABLE.sub(value, text)
