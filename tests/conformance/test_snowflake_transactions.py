"""Transactions: https://docs.snowflake.com/en/sql-reference/transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from snowflake.connector import SnowflakeConnection
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errors import IntegrityError, ProgrammingError

from tests.conformance.conftest import rows, value

Connect = Callable[..., SnowflakeConnection]


@pytest.fixture(autouse=True)
def table(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (k integer not null, v varchar)")


def test_rollback_takes_back_every_statement_since_begin(cursor: SnowflakeCursor) -> None:
    cursor.execute("insert into t values (1, 'kept')")
    for sql in (
        "begin",
        "insert into t values (2, 'b')",
        "update t set v = 'x'",
        "delete from t where k = 1",
        "rollback",
    ):
        cursor.execute(sql)
    assert rows(cursor, "select * from t") == [(1, "kept")]


@pytest.mark.parametrize(
    "ddl",
    [
        "create table u (a integer)",
        "create or replace view w as select 1 a",
        "alter table t add column x integer",
        "truncate table if exists empty_one",
        "comment on table t is 'c'",
    ],
)
def test_ddl_commits_the_open_transaction(cursor: SnowflakeCursor, ddl: str) -> None:
    """ "If a DDL statement is executed while a transaction is active, the DDL statement implicitly commits it." """
    cursor.execute("create table empty_one (a integer)")
    for sql in ("begin", "insert into t values (1, 'a')", ddl, "rollback"):
        cursor.execute(sql)
    assert value(cursor, "select count(*) from t") == 1


def test_begin_in_an_open_transaction_changes_nothing(cursor: SnowflakeCursor) -> None:
    for sql in (
        "begin",
        "insert into t values (1, 'a')",
        "begin transaction",
        "insert into t values (2, 'b')",
        "rollback",
    ):
        cursor.execute(sql)
    assert value(cursor, "select count(*) from t") == 0


def test_commit_and_rollback_without_a_transaction_succeed(cursor: SnowflakeCursor) -> None:
    cursor.execute("commit")
    cursor.execute("rollback")


@pytest.mark.parametrize(
    "failing",
    [
        "insert into t values (null, 'null')",
        "insert into t select 'x'::integer, 'x'",
        "update t set k = 1 / (k - k)",
        "select 1 / (k - k) from t",
        "select * from there_is_no_such_table",
        "selekt 1",
    ],
)
def test_failed_statement_leaves_the_transaction_usable_and_its_rows_kept(
    cursor: SnowflakeCursor, failing: str
) -> None:
    """ "A statement that fails within a transaction does not roll the transaction back." COMMIT keeps the others."""
    cursor.execute("begin")
    cursor.execute("insert into t values (1, 'before')")
    cursor.execute("update t set v = 'updated'")
    with pytest.raises((ProgrammingError, IntegrityError)):
        cursor.execute(failing)
    assert rows(cursor, "select * from t") == [(1, "updated")]
    cursor.execute("insert into t values (2, 'after')")
    cursor.execute("commit")
    assert rows(cursor, "select * from t order by k") == [(1, "updated"), (2, "after")]


def test_failed_statement_then_rollback_keeps_nothing(cursor: SnowflakeCursor) -> None:
    cursor.execute("begin")
    cursor.execute("insert into t values (1, 'a')")
    with pytest.raises(IntegrityError):
        cursor.execute("insert into t values (null, 'b')")
    cursor.execute("rollback")
    assert value(cursor, "select count(*) from t") == 0


def test_autocommit_false_begins_with_the_first_dml(connect: Connect, cursor: SnowflakeCursor) -> None:
    connection = connect(autocommit=False)
    mine = connection.cursor()
    mine.execute("insert into t values (1, 'a')")
    assert value(cursor, "select count(*) from t") == 0
    connection.commit()
    mine.execute("insert into t values (2, 'b')")
    connection.rollback()
    assert value(cursor, "select count(*) from t") == 1


def test_closing_the_session_rolls_back(connect: Connect, cursor: SnowflakeCursor) -> None:
    leaving = connect()
    leaving.cursor().execute("begin")
    leaving.cursor().execute("insert into t values (1, 'a')")
    leaving.close()
    cursor.execute("update t set v = 'not blocked'")
    assert value(cursor, "select count(*) from t") == 0


def test_readers_see_only_what_is_committed(cursor: SnowflakeCursor, other: SnowflakeCursor) -> None:
    cursor.execute("begin")
    cursor.execute("insert into t values (1, 'a')")
    assert value(other, "select count(*) from t") == 0
    cursor.execute("commit")
    assert value(other, "select count(*) from t") == 1


def test_transaction_reads_what_others_commit_before_its_first_write(
    cursor: SnowflakeCursor, other: SnowflakeCursor
) -> None:
    """READ COMMITTED: "a statement sees only data that was committed before the statement began"."""
    cursor.execute("begin")
    assert value(cursor, "select count(*) from t") == 0
    other.execute("insert into t values (1, 'a')")
    assert value(cursor, "select count(*) from t") == 1
    cursor.execute("insert into t select max(k) + 1, 'next' from t")
    cursor.execute("commit")
    assert rows(other, "select k from t order by k") == [(1,), (2,)]


def test_inserts_into_one_table_do_not_wait_for_each_other(cursor: SnowflakeCursor, other: SnowflakeCursor) -> None:
    """ "Most INSERT and COPY statements write only new partitions", so they run in parallel."""
    for c in (cursor, other):
        c.execute("begin")
        c.execute("alter session set lock_timeout = 5")
    cursor.execute("insert into t values (1, 'a')")
    other.execute("insert into t values (2, 'b')")
    cursor.execute("commit")
    other.execute("commit")
    assert value(cursor, "select count(*) from t") == 2


@pytest.mark.parametrize(
    "second",
    [
        "update t set v = v || '2'",
        "merge into t using (select 1 k) s on t.k = s.k when matched then update set v = v || '2'",
    ],
)
def test_second_writer_of_a_row_waits_for_the_first_and_sees_its_change(
    cursor: SnowflakeCursor, other: SnowflakeCursor, second: str
) -> None:
    """ "UPDATE, DELETE and MERGE hold locks that prevent them from running in parallel." """
    cursor.execute("insert into t values (1, '')")
    cursor.execute("begin")
    cursor.execute("update t set v = v || '1'")
    done: list[Any] = []

    def wait_and_write() -> None:
        other.execute("begin")
        rows(other, "select * from t")
        other.execute(second)
        done.append(value(other, "select v from t"))
        other.execute("commit")

    waiting = threading.Thread(target=wait_and_write)
    waiting.start()
    waiting.join(timeout=1)
    assert waiting.is_alive(), "it did not wait"
    cursor.execute("commit")
    waiting.join(timeout=30)
    assert done == ["12"]
    assert rows(cursor, "select v from t") == [("12",)]


def test_transaction_that_waited_at_its_first_update_reads_what_the_other_inserted_elsewhere(
    cursor: SnowflakeCursor, other: SnowflakeCursor
) -> None:
    """What planners and publishers rely on: one row is the lock, the ledger is read behind it. "A statement sees only
    data that was committed before the statement began": READ COMMITTED is by statement, not by transaction."""
    cursor.execute("create table ledger (past_last integer)")
    cursor.execute("insert into t values (1, 'nobody')")
    cursor.execute("begin")
    cursor.execute("update t set v = 'first'")
    found: list[Any] = []

    def plan() -> None:
        other.execute("begin")
        other.execute("update t set v = 'second'")
        found.append(value(other, "select max(past_last) from ledger"))
        other.execute("commit")

    waiting = threading.Thread(target=plan)
    waiting.start()
    waiting.join(timeout=1)
    assert waiting.is_alive(), "it did not wait"
    cursor.execute("insert into ledger values (80)")
    cursor.execute("commit")
    waiting.join(timeout=30)
    assert found == [80]
    assert rows(cursor, "select v from t") == [("second",)]


def test_waiting_ends_with_an_error_after_lock_timeout(cursor: SnowflakeCursor, other: SnowflakeCursor) -> None:
    """LOCK_TIMEOUT: "seconds to wait while trying to lock a resource, before timing out and aborting the statement"."""
    cursor.execute("insert into t values (1, 'a')")
    cursor.execute("begin")
    cursor.execute("update t set v = 'b'")
    other.execute("alter session set lock_timeout = 1")
    other.execute("begin")
    other.execute("insert into t values (2, 'mine')")
    with pytest.raises(ProgrammingError) as e:
        other.execute("delete from t")
    assert e.value.errno == 625
    assert "locked" in str(e.value)
    cursor.execute("rollback")
    other.execute("commit")
    assert rows(cursor, "select * from t order by k") == [(1, "a"), (2, "mine")]


def test_transaction_that_waited_after_its_first_write_sees_what_was_committed(
    cursor: SnowflakeCursor, other: SnowflakeCursor
) -> None:
    cursor.execute("create table own (a integer)")
    cursor.execute("insert into t values (1, '')")
    cursor.execute("begin")
    cursor.execute("update t set v = 'first'")
    other.execute("begin")
    other.execute("insert into own values (1)")
    waiting = threading.Thread(target=other.execute, args=("update t set v = v || ' second'",))
    waiting.start()
    waiting.join(timeout=0.5)
    cursor.execute("commit")
    waiting.join(timeout=30)
    other.execute("commit")
    assert rows(cursor, "select v from t") == [("first second",)]
    assert rows(cursor, "select a from own") == [(1,)]


def test_sessions_keep_parameters_variables_and_schema_to_themselves(connect: Connect, schema: str) -> None:
    first, second = connect().cursor(), connect().cursor()
    first.execute("set mine = 1")
    first.execute(f"create schema {schema}_x")
    first.execute(f"use schema {schema}_x")
    assert value(first, "select $mine") == 1
    with pytest.raises(ProgrammingError):
        second.execute("select $mine")
    assert value(second, "select current_schema()") == schema
    first.execute(f"drop schema {schema}_x")
