"""COPY INTO from Parquet: https://docs.snowflake.com/en/sql-reference/sql/copy-into-table."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from snowflake.connector.cursor import DictCursor, SnowflakeCursor
from snowflake.connector.errors import DatabaseError

from tests.conformance.conftest import Stage, rows, value

IN_AND_OUT_OF_A_TRANSACTION = pytest.mark.parametrize("is_open", [False, True], ids=["autocommit", "transaction"])


@pytest.fixture(autouse=True)
def table(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (topic varchar, partition integer, offset integer not null, note varchar)")


def lines(*offsets: int) -> pa.Table:
    return pa.table({"Topic": ["a"] * len(offsets), "partition": [0] * len(offsets), "offset": list(offsets)})


def copy(stage: Stage, *files: str, force: str = "") -> str:
    names = ", ".join(f"'{name}'" for name in files)
    return (
        f"copy into t from @{stage.name}/ files = ({names}) file_format = (type = parquet) {force}"
        " match_by_column_name = case_insensitive on_error = abort_statement"
    )


def loaded(cursor: SnowflakeCursor, sql: str) -> dict[str, tuple[str, int, int]]:
    """{file name without its folder: (status, rows parsed, rows loaded)}"""
    assert cursor.connection is not None
    found = cursor.connection.cursor(DictCursor).execute(sql).fetchall()  # type: ignore[union-attr]
    return {r["file"].rpartition("/")[2]: (r["status"], r["rows_parsed"], r["rows_loaded"]) for r in found}


def test_copy_matches_columns_by_name_and_reports_one_row_per_file(cursor: SnowflakeCursor, stage: Stage) -> None:
    """Columns that the file lacks become NULL; columns that the table lacks are ignored."""
    stage.add("a.parquet", lines(1, 2))
    stage.add("b.parquet", lines(3).append_column("unknown", pa.array(["x"])))
    result = loaded(cursor, copy(stage, "a.parquet", "b.parquet"))
    assert result == {"a.parquet": ("LOADED", 2, 2), "b.parquet": ("LOADED", 1, 1)}
    assert rows(cursor, "select * from t order by offset")[2] == ("a", 0, 3, None)


def test_file_that_was_loaded_is_skipped_unless_force_is_true(cursor: SnowflakeCursor, stage: Stage) -> None:
    """FORCE: "load all files, regardless of whether they've been loaded previously and have not changed"."""
    stage.add("a.parquet", lines(1))
    cursor.execute(copy(stage, "a.parquet"))
    stage.add("b.parquet", lines(2))
    assert loaded(cursor, copy(stage, "a.parquet", "b.parquet"))["b.parquet"] == ("LOADED", 1, 1)
    cursor.execute(copy(stage, "a.parquet", force="force = false"))
    assert value(cursor, "select count(*) from t") == 2
    assert loaded(cursor, copy(stage, "a.parquet", force="force = true")) == {"a.parquet": ("LOADED", 1, 1)}
    assert value(cursor, "select count(*) from t") == 3


def test_load_history_is_kept_for_each_table(cursor: SnowflakeCursor, stage: Stage) -> None:
    stage.add("a.parquet", lines(1))
    cursor.execute(copy(stage, "a.parquet"))
    cursor.execute("create table u (topic varchar, offset integer)")
    cursor.execute(copy(stage, "a.parquet").replace("into t", "into u"))
    assert value(cursor, "select count(*) from u") == 1


def test_file_that_changed_since_is_loaded_again(cursor: SnowflakeCursor, stage: Stage) -> None:
    stage.add("a.parquet", lines(1))
    cursor.execute(copy(stage, "a.parquet"))
    stage.add("a.parquet", lines(2, 3))
    cursor.execute(copy(stage, "a.parquet"))
    assert value(cursor, "select count(*) from t") == 3


def test_truncate_and_create_or_replace_forget_the_load_history(cursor: SnowflakeCursor, stage: Stage) -> None:
    """TRUNCATE: "deletes the load metadata for the table, which allows the same files to be loaded again"."""
    stage.add("a.parquet", lines(1))
    cursor.execute(copy(stage, "a.parquet"))
    cursor.execute("truncate table t")
    cursor.execute(copy(stage, "a.parquet"))
    assert value(cursor, "select count(*) from t") == 1
    cursor.execute("create or replace table t (offset integer)")
    cursor.execute(copy(stage, "a.parquet"))
    assert value(cursor, "select count(*) from t") == 1


def test_rollback_takes_back_rows_and_load_history(cursor: SnowflakeCursor, stage: Stage) -> None:
    stage.add("a.parquet", lines(1))
    cursor.execute("begin")
    cursor.execute(copy(stage, "a.parquet"))
    assert value(cursor, "select count(*) from t") == 1
    cursor.execute("rollback")
    assert value(cursor, "select count(*) from t") == 0
    cursor.execute(copy(stage, "a.parquet"))
    assert value(cursor, "select count(*) from t") == 1


@IN_AND_OUT_OF_A_TRANSACTION
@pytest.mark.parametrize("broken", ["missing", "truncated", "null in a NOT NULL column", "text in a number column"])
def test_one_bad_file_fails_the_statement_and_nothing_is_loaded(
    cursor: SnowflakeCursor, stage: Stage, broken: str, is_open: bool
) -> None:
    """ON_ERROR = ABORT_STATEMENT: "abort the load operation if any error is found in a data file"."""
    stage.add("a.parquet", lines(1))
    if broken == "truncated":
        whole = (stage.folder / "a.parquet").read_bytes()
        stage.add("b.parquet", whole[: len(whole) // 2])
    elif broken == "null in a NOT NULL column":
        stage.add("b.parquet", pa.table({"offset": pa.array([None, 1], pa.int64())}))
    elif broken == "text in a number column":
        stage.add("b.parquet", pa.table({"offset": ["1", "x"]}))
    if is_open:
        cursor.execute("begin")
        cursor.execute("insert into t (offset) values (100)")
    with pytest.raises(DatabaseError):
        cursor.execute(copy(stage, "a.parquet", "b.parquet"))
    if is_open:
        cursor.execute("commit")
    assert rows(cursor, "select offset from t") == ([(100,)] if is_open else [])
    assert loaded(cursor, copy(stage, "a.parquet")) == {"a.parquet": ("LOADED", 1, 1)}


def test_more_than_a_thousand_files_are_refused(cursor: SnowflakeCursor, stage: Stage) -> None:
    """ "The maximum number of files names that can be specified is 1000." """
    names = [f"{n}.parquet" for n in range(1001)]
    with pytest.raises(DatabaseError, match="1000"):
        cursor.execute(copy(stage, *names))


def test_parquet_types_arrive_exactly(cursor: SnowflakeCursor, stage: Stage) -> None:
    cursor.execute(
        "create table typed (amount number(18, 4), price number(12, 3), ts timestamp_ntz, d date, b boolean)"
    )
    at = dt.datetime(2010, 12, 1, 8, 26, 0, 123456)
    content = {
        "amount": pa.array([Decimal("12345678901234.5678"), None], pa.decimal128(18, 4)),
        "price": pa.array([Decimal("2.550"), None], pa.decimal128(12, 3)),
        "ts": pa.array([at, None], pa.timestamp("us")),
        "d": pa.array([at.date(), None]),
        "b": pa.array([True, None]),
    }
    stage.add("deep/er/a.parquet", pa.table(content))
    sql = copy(stage, "deep/er/a.parquet").replace("into t ", "into typed ")
    cursor.execute(sql.replace("type = parquet", "type = parquet use_logical_type = true"))
    assert rows(cursor, "select * from typed order by amount nulls last") == [
        (Decimal("12345678901234.5678"), Decimal("2.550"), at, at.date(), True),
        (None,) * 5,
    ]
