"""SQL files as statements, parameters as bindings, and transactions that end for certain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from include.sql import bound, sql_files, statements
from local.instance import ROOT
from madhatter import publish, warehouse
from madhatter.warehouse import Warehouse

SQL = sorted(
    str(path.relative_to(ROOT / "include" / "sql"))
    for path in (ROOT / "include" / "sql").rglob("*.sql")
    if path.parent.name != "migrations"
)
DML_OR_QUERY = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Query)
# Command is what the parser takes for a statement without understanding it.
ENDS_A_TRANSACTION = (exp.Command, exp.Create, exp.Alter, exp.Drop, exp.TruncateTable, exp.Transaction, exp.Commit)
KNOWN_PARAMETERS = {"load_id", "slices", "hours", "counts", "days", "first_day", "past_last_day", "pause_s"} | {
    *("letters", "rule_name", "run_id", "decided_by"),
    *("first_minute", "last_minute", "batch_id", "version", "final_until", "events", "late_to_stream", "rejected"),
    *("written_ts", "newest_arrival_ts", "due", "first", "ids", "length_s", "most", "orders", "shelves", "who"),
}


class Recorder:
    """A connection that keeps what reaches it."""

    def __init__(self, fails_at: str = "") -> None:
        self.sent: list[tuple[str, Any]] = []
        self.fails_at = fails_at
        self.description = ()
        self.rowcount = 0

    @contextmanager
    def cursor(self) -> Iterator[Recorder]:
        yield self

    def execute(self, sql: str, parameters: Any = None) -> None:
        self.sent.append((sql, parameters))
        if self.fails_at and self.fails_at in sql:
            raise ConnectionError(sql)

    def fetchall(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("where a = :slice_id", "where a = %(slice_id)s"),
        ("(:hours)", "(%(hours)s)"),
        ("value::date", "value::date"),
        ("value::timestamp_ntz >= :first_day", "value::timestamp_ntz >= %(first_day)s"),
        ("data:field", "data:field"),
        ("'10:30:00'", "'10:30:00'"),
        ("like 'A%' and x = :a", "like 'A%%' and x = %(a)s"),
    ],
)
def test_named_parameters_become_bindings_and_nothing_else_changes(sql: str, expected: str) -> None:
    assert bound(sql) == expected


def test_statement_without_parameters_is_sent_as_it_is_written() -> None:
    recorder = Recorder()
    Warehouse(recorder).rows("select 7 % 2 where a like 'A%'")  # type: ignore[arg-type]
    assert recorder.sent == [("select 7 % 2 where a like 'A%'", None)]


@pytest.mark.parametrize("name", SQL)
def test_sql_file_has_statements_and_asks_only_for_known_parameters(name: str) -> None:
    assert statements(name)
    for statement in statements(name):
        assert not statement.endswith(";")
        assert re.search(r"^(delete|insert|with|select|merge|update)\b", statement, re.MULTILINE)
        assert set(re.findall(r"%\((\w+)\)s", bound(statement))) <= KNOWN_PARAMETERS


@pytest.mark.parametrize("name", SQL)
def test_statement_of_a_transaction_is_dml_or_a_query_since_anything_else_commits_it(name: str) -> None:
    for statement in statements(name):
        (parsed,) = sqlglot.parse(statement, dialect="snowflake")
        assert isinstance(parsed, DML_OR_QUERY), f"{name}: {type(parsed).__name__}: {statement[:80]}"
        inside = [type(node).__name__ for node in parsed.walk() if isinstance(node, ENDS_A_TRANSACTION)]
        assert not inside, f"{name}: {inside}: {statement[:80]}"


@pytest.mark.parametrize(
    "statement",
    ["create table t (a int)", "truncate table t", "commit", "alter session set x = 1", "use schema s", "call p()"],
)
def test_statement_that_commits_is_told_from_dml(statement: str) -> None:
    assert not isinstance(sqlglot.parse_one(statement, dialect="snowflake"), DML_OR_QUERY)


def test_file_with_a_delete_and_an_insert_is_two_statements() -> None:
    first, second = statements("core/order_line.sql")
    assert "delete from core.order_line" in first
    assert "insert into core.order_line" in second


def test_files_of_a_folder_come_by_name() -> None:
    assert sql_files("dimensions") == ["dimensions/customer.sql", "dimensions/product.sql"]
    assert [f"dimensions/{name}.sql" for name in publish.DIMENSIONS] == sql_files("dimensions")


def test_missing_sql_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.sql"):
        statements("core/none.sql")


def test_days_are_those_of_the_hours() -> None:
    hours = ["2011-01-05T00:00:00", "2011-01-04T23:00:00", "2011-01-05T13:00:00"]
    assert warehouse.touched_days(hours) == ["2011-01-04", "2011-01-05"]


def test_transaction_commits_at_its_end() -> None:
    recorder = Recorder()
    own = Warehouse(recorder)  # type: ignore[arg-type]
    with own.transaction():
        own.run("select 1")
    assert [sql for sql, _ in recorder.sent] == ["begin", "select 1", "commit"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_transaction_rolls_back_on_any_error_and_raises_it(error: type[BaseException]) -> None:
    recorder = Recorder()
    with pytest.raises(error), Warehouse(recorder).transaction():  # type: ignore[arg-type]
        raise error
    assert [sql for sql, _ in recorder.sent] == ["begin", "rollback"]


def test_failed_commit_is_an_error() -> None:
    recorder = Recorder(fails_at="commit")
    with pytest.raises(ConnectionError), Warehouse(recorder).transaction():  # type: ignore[arg-type]
        pass
