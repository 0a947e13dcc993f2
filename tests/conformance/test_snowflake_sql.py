"""The SQL that the platform's models and tools are written in."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from snowflake.connector.cursor import DictCursor, SnowflakeCursor
from snowflake.connector.errors import ProgrammingError

from tests.conformance.conftest import rows, run, value


def test_offset_partition_and_topic_are_column_names_in_any_case(cursor: SnowflakeCursor) -> None:
    cursor.execute(
        "create table t (topic varchar, partition integer, offset integer, primary key (topic, partition, offset))"
    )
    cursor.execute("insert into t (topic, partition, offset) values ('a', 1, 2), ('a', 1, 3)")
    assert rows(cursor, "select offset, partition from t where offset > 0 order by offset") == [(2, 1), (3, 1)]
    sql = """
        select T.OFFSET, max(t.partition) over (partition by topic, partition order by offset) from t
        qualify row_number() over (partition by topic, partition order by offset desc) = 1
    """
    assert rows(cursor, sql) == [(3, 1)]
    assert [d.name for d in run(cursor, "select topic, partition, offset from t").description] == [
        "TOPIC", "PARTITION", "OFFSET",
    ]  # fmt: skip
    cursor.execute("update t set offset = offset + 1, partition = 0 where topic = 'a'")
    cursor.execute("create view v as select topic, partition, min(offset) as offset from t group by topic, partition")
    assert rows(cursor, 'select "OFFSET", "PARTITION" from v') == [(3, 0)]


def test_unnamed_columns_are_named_by_their_text(cursor: SnowflakeCursor) -> None:
    assert cursor.connection is not None
    found = cursor.connection.cursor(DictCursor).execute(
        "select count(*), sum(column1), max(column1) m from values (1)"
    )
    assert found.fetchall() == [{"COUNT(*)": 1, "SUM(COLUMN1)": 1, "M": 1}]  # type: ignore[union-attr]


def test_flatten_of_a_bound_json_array_gives_its_values(cursor: SnowflakeCursor) -> None:
    hours = ["2010-12-01T08:00:00", "2010-12-01T09:00:00"]
    sql = "select value::timestamp_ntz as h from table(flatten(input => parse_json(%s))) order by h"
    assert rows(cursor, sql, (json.dumps(hours),)) == [(dt.datetime.fromisoformat(h),) for h in hours]
    sql = """
        select count(*) from values ('a'), ('b')
        where column1 in (select value::varchar from table(flatten(input => parse_json(%s))))
    """
    assert value(cursor, sql, ('["a", "it\'s"]',)) == 1


def test_lateral_flatten_gives_an_objects_fields(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (k integer, doc varchar)")
    cursor.execute("insert into t values (1, %s)", (json.dumps({"lines": [{"n": 1, "s": "x"}, {"n": 2, "s": None}]}),))
    sql = """
        select k, f.value:n::integer, f.value:s::varchar
        from t, lateral flatten(input => parse_json(doc):lines) f order by 2
    """
    assert rows(cursor, sql) == [(1, 1, "x"), (1, 2, None)]


def test_qualify_group_by_all_and_aggregates(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (g varchar, v integer)")
    cursor.execute("insert into t values ('a', 1), ('a', 2), ('b', 3)")
    sql = "select g, count_if(v > 1) n, listagg(v, ',') within group (order by v) l from t group by all order by g"
    assert rows(cursor, sql) == [("a", 1, "1,2"), ("b", 1, "3")]
    sql = "select g, sum(v) s from t group by all qualify row_number() over (order by g desc) = 1"
    assert rows(cursor, sql) == [("b", 3)]
    assert json.loads(value(cursor, "select array_agg(v) within group (order by v desc) from t")) == [3, 2, 1]
    sql = "select * from t qualify row_number() over (partition by g order by v desc) = 1 order by g"
    assert rows(cursor, sql) == [
        ("a", 2), ("b", 3),
    ]  # fmt: skip


def test_time_functions(cursor: SnowflakeCursor) -> None:
    at = dt.datetime(2010, 12, 1, 8, 26, 30)
    sql = """
        select date_trunc('hour', ts), date_trunc('month', d), dateadd(day, 1, d), dateadd(minute, -2, ts),
            datediff(hour, '2010-12-01 07:59:59'::timestamp_ntz, ts), to_date(ts), dayofweekiso(d), hour(ts),
            to_char(ts, 'YYYY-MM-DD"T"HH24:MI:SS'), ts::date, '2010-12-01T08:26:30Z'::timestamp_ntz, d + 1,
            to_timestamp_ntz('2010-12-01 08:26:30'), try_to_timestamp_ntz('no time')
        from (select %s::timestamp_ntz as ts, %s::date as d)
    """
    day = at.date()
    assert rows(cursor, sql, (at, day)) == [
        (at.replace(minute=0, second=0), day, day + dt.timedelta(days=1), at - dt.timedelta(minutes=2), 1, day, 3, 8,
         "2010-12-01T08:26:30", day, at, day + dt.timedelta(days=1), at, None)
    ]  # fmt: skip


def test_hash_agg_tells_whether_two_sets_of_rows_are_equal(cursor: SnowflakeCursor) -> None:
    """Independent of the rows' order; repeated rows and NULLs count."""
    one = value(cursor, "select hash_agg(*) from values (1, 'a'), (2, null), (2, null)")
    assert one == value(cursor, "select hash_agg(column1, column2) from values (2, null), (1, 'a'), (2, null)")
    assert one != value(cursor, "select hash_agg(*) from values (2, null), (1, 'a')")
    assert one != value(cursor, "select hash_agg(*) from values (1, 'a'), (2, 'x'), (2, null)")


def test_ddl_can_be_repeated(cursor: SnowflakeCursor) -> None:
    for _ in range(2):
        cursor.execute("create table if not exists t (a integer)")
        cursor.execute("alter table t add column if not exists b number(18, 4)")
        cursor.execute("create or replace view v copy grants as select a, b from t")
        cursor.execute("create or replace table u as select a, b from v")
        cursor.execute("comment on table t is 'a table'")
        cursor.execute("comment on view v is 'a view'")
        cursor.execute("comment on column t.a is 'a column'")
        cursor.execute("drop table if exists u")
    with pytest.raises(ProgrammingError) as e:
        cursor.execute("create table t (a integer)")
    assert (e.value.errno, e.value.sqlstate) == (2002, "42710")


def test_information_schema_describes_tables_views_and_columns(cursor: SnowflakeCursor, schema: str) -> None:
    cursor.execute("create table t (a integer not null, b number(18, 4), c timestamp_ntz, d varchar)")
    cursor.execute("create view v as select a from t")
    found = rows(
        cursor,
        "select table_name, table_type from information_schema.tables where table_schema = %s order by 1",
        (schema,),
    )
    assert found == [("T", "BASE TABLE"), ("V", "VIEW")]
    sql = """
        select column_name, data_type, is_nullable, numeric_precision, numeric_scale from information_schema.columns
        where table_schema = %s and table_name = 'T' order by ordinal_position
    """
    assert rows(cursor, sql, (schema,)) == [
        ("A", "NUMBER", "NO", 38, 0), ("B", "NUMBER", "YES", 18, 4),
        ("C", "TIMESTAMP_NTZ", "YES", None, None), ("D", "TEXT", "YES", None, None),
    ]  # fmt: skip


def test_session_parameters_are_accepted(cursor: SnowflakeCursor) -> None:
    cursor.execute("""alter session set query_tag = '{"dag": "retail_hourly"}', lock_timeout = 60""")
    cursor.execute("alter session set statement_timeout_in_seconds = 600")
    cursor.execute("alter session set timezone = 'UTC'")
    cursor.execute("alter session unset query_tag")


def test_production_only_ddl_is_accepted(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer)")
    cursor.execute("alter table t cluster by (a)")
    cursor.execute("alter table t set data_retention_time_in_days = 1")


@pytest.mark.parametrize(
    ("sql", "errno", "sqlstate"),
    [
        ("selekt 1", 1003, "42000"),
        ("select * from there_is_none", 2003, "42S02"),
        ("select nope from (select 1 as a)", 904, "42000"),
        ("insert into there_is_none values (1)", 2003, "42S02"),
        ("drop table there_is_none", 2003, "42S02"),
        ("select 1; select 2", 8, "0A000"),
    ],
)
def test_wrong_statement_is_an_error_at_once(cursor: SnowflakeCursor, sql: str, errno: int, sqlstate: str) -> None:
    with pytest.raises(ProgrammingError) as e:
        cursor.execute(sql)
    assert (e.value.errno, e.value.sqlstate) == (errno, sqlstate)
    assert value(cursor, "select 1") == 1


def test_decimal_literals_and_division_in_a_model(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (net_sales number(18, 4), orders integer)")
    cursor.execute("insert into t select round(column1 * 2.55, 4), column2 from values (3, 2), (4, 0)")
    found = rows(cursor, "select net_sales, round(net_sales / nullif(orders, 0), 2) from t order by 1")
    assert found == [(Decimal("7.65"), Decimal("3.83")), (Decimal("10.2"), None)]


def test_describe_gives_the_columns_without_running_the_query(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer, b number(18, 4), c timestamp_ntz)")
    columns = cursor.describe("select a, sum(b) as b, max(c) as c from t group by all")
    assert [(c.name, c.type_code) for c in columns] == [("A", 0), ("B", 0), ("C", 8)]
    assert (columns[1].precision, columns[1].scale) == (38, 4)


def test_temporary_table_is_written_in_a_transaction(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer)")
    cursor.execute("create or replace temporary table s (a integer)")
    for sql in ("begin", "insert into s values (1), (2)", "insert into t select a from s", "commit"):
        cursor.execute(sql)
    assert value(cursor, "select sum(a) from t") == 3


def test_convert_timezone_follows_the_zones_changes_of_clocks(cursor: SnowflakeCursor) -> None:
    moments = ["2026-03-29 00:59", "2026-03-29 01:00", "2026-10-25 00:59", "2026-10-25 01:00"]
    sql = "select convert_timezone('UTC', 'Europe/London', %s::timestamp_ntz)"
    assert [value(cursor, sql, (moment,)) for moment in moments] == [
        dt.datetime(2026, 3, 29, 0, 59),
        dt.datetime(2026, 3, 29, 2, 0),
        dt.datetime(2026, 10, 25, 1, 59),
        dt.datetime(2026, 10, 25, 1, 0),
    ]


def test_same_statement_is_about_what_is_there_when_it_is_sent(cursor: SnowflakeCursor) -> None:
    asked = "select * from t order by 1"
    cursor.execute("create table t (a integer)")
    for number in range(2):
        cursor.execute("insert into t (a) values (%s)", (number,))
    assert rows(cursor, asked) == [(0,), (1,)]
    cursor.execute("alter table t add column b varchar default 'x'")
    assert rows(cursor, asked) == [(0, "x"), (1, "x")]
    cursor.execute("create schema other")
    cursor.execute("create table t (c varchar)")
    assert rows(cursor, asked) == []
    merge = "merge into t using (select 'm' as c) as new on t.c = new.c when not matched then insert (c) values (new.c)"
    assert [run(cursor, merge).rowcount for _ in range(2)] == [1, 0]
    assert rows(cursor, asked) == [("m",)]
