"""INSERT, UPDATE, DELETE, MERGE: counts, atomicity, keys."""

from __future__ import annotations

import pytest
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errors import DatabaseError, IntegrityError, ProgrammingError

from tests.conformance.conftest import rows, run, value

IN_AND_OUT_OF_A_TRANSACTION = pytest.mark.parametrize("is_open", [False, True], ids=["autocommit", "transaction"])


def test_primary_and_unique_keys_are_accepted_and_not_enforced(cursor: SnowflakeCursor) -> None:
    """ "Snowflake supports defining and maintaining constraints, but does not enforce them, except for NOT NULL"."""
    cursor.execute("create table p (k integer primary key, u varchar unique)")
    cursor.execute("create table t (a integer, b integer, c integer references p (k), primary key (a, b), unique (b))")
    cursor.execute("insert into p values (1, 'x'), (1, 'x')")
    cursor.execute("insert into t values (1, 1, 99), (1, 1, 98)")
    assert value(cursor, "select count(*) from t") == 2


def test_not_null_is_enforced_for_its_columns_and_those_of_the_primary_key(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer, b integer not null, c integer, primary key (a))")
    for values in ("(null, 1, 1)", "(1, null, 1)"):
        with pytest.raises(IntegrityError) as e:
            cursor.execute(f"insert into t values {values}")
        assert (e.value.errno, e.value.sqlstate) == (100072, "22000")
    cursor.execute("insert into t values (1, 1, null)")


def test_rowcount_is_the_number_of_changed_rows(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer, b integer)")
    assert run(cursor, "insert into t values (1, 1), (2, 2), (3, 3)").rowcount == 3
    assert run(cursor, "insert into t (b, a) with s as (select a, b from t) select b, a + 10 from s").rowcount == 3
    assert run(cursor, "update t set b = 0 where a > 2").rowcount == 4
    assert run(cursor, "delete from t where a > 10").rowcount == 3
    assert run(cursor, "delete from t where a > 10").rowcount == 0


def test_executemany_counts_all_its_rows(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer, b varchar)")
    cursor.executemany("insert into t values (%s, %s)", [(n, f"it's {n}") for n in range(5)])
    assert cursor.rowcount == 5
    assert rows(cursor, "select b from t where a = 4") == [("it's 4",)]


def test_merge_inserts_updates_and_deletes_and_counts_each(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (k integer, v varchar)")
    cursor.execute("insert into t values (1, 'old'), (2, 'old'), (3, 'old')")
    cursor.execute(
        """
        merge into t as target using (
            select column1 as k, column2 as v from values (1, 'new'), (2, null), (4, 'new'), (5, 'new')
        ) as s on target.k = s.k
        when matched and s.v is null then delete
        when matched then update set target.v = s.v
        when not matched then insert (k, v) values (s.k, s.v)
        """
    )
    names = [column.name for column in cursor.description]
    counted = dict(zip(names, cursor.fetchall()[0]))
    assert counted == {"number of rows inserted": 2, "number of rows updated": 1, "number of rows deleted": 1}
    assert cursor.rowcount == 4
    assert rows(cursor, "select * from t order by k") == [(1, "new"), (3, "old"), (4, "new"), (5, "new")]


@IN_AND_OUT_OF_A_TRANSACTION
def test_merge_with_duplicate_source_rows_fails_and_changes_nothing(cursor: SnowflakeCursor, is_open: bool) -> None:
    """ERROR_ON_NONDETERMINISTIC_MERGE: "Duplicate row detected during DML action"."""
    cursor.execute("create table t (k integer, v varchar)")
    cursor.execute("insert into t values (1, 'old')")
    if is_open:
        cursor.execute("begin")
        cursor.execute("insert into t values (9, 'mine')")
    with pytest.raises(ProgrammingError) as e:
        cursor.execute(
            """
            merge into t using (select column1 as k, column2 as v from values (1, 'a'), (1, 'b'), (2, 'c')) s
            on t.k = s.k
            when matched then update set v = s.v
            when not matched then insert values (s.k, s.v)
            """
        )
    assert (e.value.errno, e.value.sqlstate) == (100090, "42P18")
    assert "Duplicate row detected during DML action" in str(e.value)
    if is_open:
        cursor.execute("commit")
    assert rows(cursor, "select * from t order by k") == [(1, "old")] + ([(9, "mine")] if is_open else [])


@IN_AND_OUT_OF_A_TRANSACTION
def test_insert_overwrite_replaces_all_rows(cursor: SnowflakeCursor, is_open: bool) -> None:
    cursor.execute("create table t (a integer not null)")
    cursor.execute("insert into t values (1), (2)")
    if is_open:
        cursor.execute("begin")
    assert run(cursor, "insert overwrite into t select 3").rowcount == 1
    if is_open:
        cursor.execute("rollback")
    assert rows(cursor, "select * from t order by a") == ([(1,), (2,)] if is_open else [(3,)])


@IN_AND_OUT_OF_A_TRANSACTION
def test_failed_insert_overwrite_keeps_the_old_rows(cursor: SnowflakeCursor, is_open: bool) -> None:
    cursor.execute("create table t (a integer not null)")
    cursor.execute("insert into t values (1)")
    if is_open:
        cursor.execute("begin")
    with pytest.raises(DatabaseError):
        cursor.execute("insert overwrite into t select null")
    if is_open:
        cursor.execute("commit")
    assert rows(cursor, "select * from t") == [(1,)]


def test_failed_insert_of_many_rows_inserts_none(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer)")
    with pytest.raises(DatabaseError):
        cursor.execute("insert into t select column1::integer from values ('1'), ('x')")
    assert value(cursor, "select count(*) from t") == 0


def test_number_that_does_not_fit_its_column_is_an_error(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a number(5, 2))")
    with pytest.raises(DatabaseError):
        cursor.execute("insert into t values (1000)")
    cursor.execute("insert into t values (1.005)")
    assert str(value(cursor, "select a from t")) == "1.01"
