"""What the stand-in cannot do as Snowflake does, it refuses at once: no misleading success, no retries."""

from __future__ import annotations

import pytest
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errors import DatabaseError, ProgrammingError

from tests.conformance.conftest import rows, value


@pytest.mark.parametrize(
    "sql",
    [
        "create materialized view v as select 1 a",
        "create or replace dynamic table d target_lag = '1 minute' warehouse = w as select 1 a",
        "create task x warehouse = w schedule = '1 minute' as select 1",
        "create pipe p as copy into t from @s",
        "create stream s on table t",
        "create external table e (a int) location = @s file_format = (type = parquet)",
        "create or alter table t (a integer)",
        "create function f(a int) returns int as 'a'",
        "create procedure p() returns int language sql as 'begin return 1; end'",
        "create stage s",
        "create stage s url = 'file:///x/' file_format = (type = parquet)",
        "create table t (a integer check (a > 0))",
        "create masking policy m as (v varchar) returns varchar -> 'x'",
        "alter table t swap with u",
        "undrop table t",
        "select * from t at(offset => -60)",
        "select * from t before(statement => 'x')",
        "select * from t for update",
        "insert all into t select 1",
        "copy into @s from t",
        "copy into t from @s file_format = (type = csv)",
        "copy into t from @s files = ('a') file_format = (type = parquet)",
        "copy into t from @s file_format = (type = parquet) match_by_column_name = case_sensitive on_error = continue",
        "copy into t from @s pattern = 'a' file_format = (type = parquet) match_by_column_name = case_insensitive",
        "execute immediate 'select 1'",
        "explain select 1",
        "call p()",
        "pragma version",
        "install httpfs",
        "checkpoint",
        "export database 'x'",
        "alter session set timezone = 'Europe/London'",
        "alter session set week_start = 7",
        "select to_char(current_timestamp(), 'Q')",
        "select to_char(1.5, '999.00')",
    ],
)
def test_unsupported_statement_is_refused_and_named(cursor: SnowflakeCursor, sql: str) -> None:
    cursor.execute("create table t (a integer)")
    cursor.execute("create table u (a integer)")
    if "@s" in sql:
        cursor.execute("create stage s url = 'file:///nowhere/'")
    with pytest.raises(ProgrammingError) as e:
        cursor.execute(sql)
    assert (e.value.errno, e.value.sqlstate) == (2, "0A000")
    assert "Unsupported feature" in str(e.value)


@pytest.mark.parametrize(
    "sql",
    [
        "select ratio_to_report(1) over ()", "select * from table(information_schema.query_history())",
        "select system$clustering_information('t')", "select last_query_id()", "alter session set no_such = 1",
        "select read_text('/etc/passwd')", "select * from read_csv('/etc/passwd')", "select * from '/etc/passwd'",
        "show pipes", "use schema no_such", "create schema", "(", "select 'open", "update t set nope = 1",
        "show tables in account limit 3", "show schemas like 'x'",
    ],
)  # fmt: skip
def test_unknown_function_or_broken_statement_is_a_programming_error(cursor: SnowflakeCursor, sql: str) -> None:
    cursor.execute("create table t (a integer)")
    with pytest.raises(DatabaseError) as e:
        cursor.execute(sql)
    assert e.value.errno
    assert e.value.sqlstate
    assert value(cursor, "select 1") == 1


def test_access_and_compute_ddl_is_a_no_op(cursor: SnowflakeCursor) -> None:
    """Listed in docs/deviations.md: it exists in production only and changes no result."""
    for sql in (
        "create role if not exists analyst",
        "grant select on all tables in schema public to role analyst",
        "revoke all privileges on schema public from role analyst",
        "create warehouse if not exists w warehouse_size = xsmall",
        "alter warehouse w suspend",
        "create or replace resource monitor m with credit_quota = 1",
        "create storage integration i type = external_stage",
        "use warehouse w",
        "use role analyst",
    ):
        assert rows(cursor, sql) == [("Statement executed successfully.",)]
