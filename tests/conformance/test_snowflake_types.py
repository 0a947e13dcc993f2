"""Values: what goes in comes out, and sums of NUMBER are exact."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector import SnowflakeConnection
from snowflake.connector.cursor import SnowflakeCursor

from tests.conformance.conftest import rows, value

AWKWARD = 'it\'s "quoted" \\ back\\nslash % %s :x ? $mine $$ ünïcödé 🎩 -- no comment\nnext line\ttab'


def test_sums_and_averages_of_number_are_exact(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (quantity integer, unit_price number(12, 3), amount number(18, 4))")
    cursor.execute("insert into t select 3, 0.001, 12345678901234.5678 from table(generator(rowcount => 1001))")
    assert rows(cursor, "select sum(unit_price), sum(quantity * unit_price), sum(amount), sum(quantity) from t") == [
        (Decimal("1.001"), Decimal("3.003"), Decimal("12358024580135802.3678"), 3003)
    ]
    assert rows(cursor, "select avg(unit_price), avg(quantity) from t") == [(Decimal("0.001"), 3)]


def test_percentile_of_whole_numbers_lies_between_them(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (ms number(9, 0), rate float)")
    cursor.execute("insert into t values (1, 1), (2, 2)")
    found = rows(
        cursor,
        "select percentile_cont(0.5) within group (order by ms), "
        "round(percentile_cont(0.5) within group (order by ms)), "
        "percentile_cont(0.5) within group (order by rate) from t",
    )
    assert [float(number) for number in found[0]] == [1.5, 2, 1.5]


def test_whole_numbers_are_ints_and_others_decimals(cursor: SnowflakeCursor) -> None:
    cursor.execute("create table t (a integer, b number(18, 0), c number(18, 4), d float, e bigint)")
    cursor.execute("insert into t values (1, 2, 3.5, 4.5, 9007199254740993)")
    (row,) = rows(cursor, "select a, b, c, d, e, count(*), sum(a), max(b), min(c), sum(d) from t group by all")
    assert row == (1, 2, Decimal("3.5"), 4.5, 9007199254740993, 1, 1, 2, Decimal("3.5"), 4.5)
    assert [type(v) for v in row] == [int, int, Decimal, float, int, int, int, int, Decimal, float]


def test_number_divided_by_number_is_a_number_with_six_more_digits(cursor: SnowflakeCursor) -> None:
    found = value(cursor, "select 1 / 3")
    assert (found, type(found)) == (Decimal("0.333333"), Decimal)
    assert value(cursor, "select sum(column1) / count(*) from values (1.5::number(18, 4)), (2)") == Decimal("1.75")


def test_division_by_zero_is_an_error(cursor: SnowflakeCursor) -> None:
    with pytest.raises(snowflake.connector.ProgrammingError, match="Division by zero"):
        cursor.execute("select column1 / column2 from values (1, 0)")
    assert value(cursor, "select column1 / nullif(column2, 0) from values (1, 0)") is None


def test_nothing_divided_by_zero_is_nothing(cursor: SnowflakeCursor) -> None:
    empty = "select cast(null as number(9, 0)) as x, 0 as y"
    cursor.execute(f"select x / y, div0(x, y), div0(sum(x), sum(y)), div0(1, y) from ({empty}) as t group by x, y")
    assert cursor.fetchone() == (None, None, None, 0)


def test_null_comes_back_as_none_for_every_type(cursor: SnowflakeCursor) -> None:
    cursor.execute(
        "create table t (a integer, b number(18, 4), c float, d varchar, e boolean, f date, g timestamp_ntz, h time,"
        " i variant, j timestamp_tz)"
    )
    cursor.execute("insert into t (a) values (null), (1)")
    cursor.execute("update t set g = '2020-01-01 00:00:00' where a = 1")
    assert rows(cursor, "select * from t where a is null") == [(None,) * 10]
    assert rows(cursor, "select g, f from t order by a nulls first") == [(None, None), (dt.datetime(2020, 1, 1), None)]
    assert rows(cursor, "select max(f), min(g), sum(b), max(h), null from t where a > 9") == [(None,) * 5]


@pytest.mark.parametrize(
    "at",
    [
        dt.datetime(2010, 12, 1, 8, 26, 0, 123456),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
        dt.datetime(2026, 11, 23, 0, 0, 0, 1),
        dt.datetime(9999, 12, 31, 23, 59, 59),
    ],
    ids=str,
)
def test_timestamp_ntz_keeps_its_microseconds(cursor: SnowflakeCursor, at: dt.datetime) -> None:
    cursor.execute("create table t (ts timestamp_ntz)")
    cursor.execute("insert into t values (%s)", (at,))
    assert rows(cursor, "select ts, ts::date, date_trunc('hour', ts) from t") == [
        (at, at.date(), at.replace(minute=0, second=0, microsecond=0))
    ]
    assert value(cursor, "select count(*) from t where ts = %s", (at,)) == 1


@pytest.mark.parametrize("paramstyle", ["pyformat", "qmark"])
@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        ("varchar", AWKWARD),
        ("varchar", ""),
        ("varchar", None),
        ("integer", -(2**53) - 1),
        ("integer", None),
        ("number(18, 4)", Decimal("-12345678901234.5678")),
        ("float", 1.5e-7),
        ("boolean", True),
        ("boolean", False),
        ("date", dt.date(2011, 12, 9)),
        ("date", None),
        ("timestamp_ntz", dt.datetime(2011, 12, 9, 12, 50, 0, 999999)),
        ("timestamp_ntz", None),
    ],
)
def test_bound_value_comes_back_as_it_was(
    connect: Callable[..., SnowflakeConnection], paramstyle: str, kind: str, bound: Any
) -> None:
    cursor = connect(paramstyle=paramstyle).cursor()
    mark = "?" if paramstyle == "qmark" else "%s"
    cursor.execute(f"create table t (a {kind}, b integer)")
    cursor.execute(f"insert into t (a, b) values ({mark}, {mark})", (bound, 1))
    cursor.execute(f"insert into t (a, b) select {mark}, 2", (bound,))
    cursor.execute(f"update t set a = {mark} where b = {mark}", (bound, 2))
    found = rows(cursor, "select a from t")
    assert found == [(bound,)] * 2
    assert isinstance(found[0][0], type(bound))
    if bound is not None:
        assert value(cursor, f"select count(*) from t where a = {mark}", (bound,)) == 2


def test_list_is_bound_as_an_in_list(cursor: SnowflakeCursor) -> None:
    assert rows(
        cursor, "select column1 from values ('a'), ('b'), ('c') where column1 in (%s) order by 1", (["a", "c"],)
    ) == [
        ("a",),
        ("c",),
    ]


def test_array_binding_inserts_every_row(connect: Callable[..., SnowflakeConnection]) -> None:
    cursor = connect(paramstyle="qmark").cursor()
    cursor.execute("create table t (a integer, b varchar, ts timestamp_ntz)")
    at = dt.datetime(2020, 1, 1, 1, 2, 3, 4)
    cursor.executemany("insert into t values (?, ?, ?)", [(1, "x", at), (2, None, at)])
    assert cursor.rowcount == 2
    assert rows(cursor, "select * from t order by a") == [(1, "x", at), (2, None, at)]


def test_large_result_comes_back_whole(cursor: SnowflakeCursor) -> None:
    found = rows(cursor, "select seq4() as n, 'row ' || seq4() from table(generator(rowcount => 50000)) order by n")
    assert len(found) == 50_000
    assert (found[0], found[-1]) == ((0, "row 0"), (49_999, "row 49999"))
