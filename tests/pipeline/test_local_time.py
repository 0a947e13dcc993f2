"""Sales by the shop's own clocks: no hour is lost or doubled when they are changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from tests.pipeline.chain import Chain, empty_chain, order
from tests.stand_ins import Snowflake

LONDON = ZoneInfo("Europe/London")
FORWARD, BACK = date(2026, 3, 29), date(2026, 10, 25)
MEASURES = "sum(orders) as orders, sum(units) as units, sum(net_sales) as net_sales"


def hours() -> list[datetime]:
    """Every hour, UTC, of the two days on which clocks are changed, and of the days around each."""
    return [
        datetime(changed.year, changed.month, changed.day, tzinfo=UTC) + timedelta(hours=hour)
        for changed in (FORWARD, BACK)
        for hour in range(-24, 48)
    ]


@pytest.fixture(scope="module")
def local(snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """An order in every hour, of as many pieces as its number."""
    chain = empty_chain(snowflake.open(), tmp_path_factory.mktemp("chain"))
    orders = [
        order(f"L{number}", f"{hour + timedelta(minutes=59):%Y-%m-%dT%H:%M:%SZ}", quantity=number)
        for number, hour in enumerate(hours(), 1)
    ]
    chain.send(0, *orders)
    chain.run("hour-1")
    yield chain
    chain.warehouse.close()


def test_local_hours_are_those_of_the_zone_and_each_order_is_in_one(local: Chain) -> None:
    rows = local.warehouse.rows(
        f"select order_hour, local_hour, local_date, utc_offset_min, {MEASURES} "
        "from reporting.sales_by_local_hour group by all order by order_hour"
    )
    expected = []
    for number, hour in enumerate(hours(), 1):
        clock = hour.astimezone(LONDON)
        offset = clock.utcoffset()
        assert offset is not None
        expected.append(
            {
                "order_hour": hour.replace(tzinfo=None),
                "local_hour": clock.replace(tzinfo=None),
                "local_date": clock.date(),
                "utc_offset_min": offset // timedelta(minutes=1),
                "orders": 1,
                "units": number,
                "net_sales": number * Decimal("7.65"),
            }
        )
    assert rows == expected
    assert len({(row["local_hour"], row["utc_offset_min"]) for row in rows}) == len(rows)


@pytest.mark.parametrize(("day", "length"), [(FORWARD, 23), (BACK, 25), (date(2026, 3, 28), 24)], ids=str)
def test_day_has_the_hours_that_the_clocks_show(local: Chain, day: date, length: int) -> None:
    rows = local.warehouse.rows(
        "select local_hour, count(*) as n from reporting.sales_by_local_hour where local_date = :day group by all",
        day=day.isoformat(),
    )
    shown = Counter(clock.hour for clock in (hour.astimezone(LONDON) for hour in hours()) if clock.date() == day)
    assert Counter({row["local_hour"].hour: row["n"] for row in rows}) == shown
    assert shown.total() == length


def test_local_days_add_up_to_what_was_sold(local: Chain) -> None:
    rows = local.warehouse.rows(
        f"select local_date, {MEASURES} from reporting.sales_by_local_day group by all order by local_date"
    )
    units: Counter[date] = Counter()
    for number, hour in enumerate(hours(), 1):
        units[hour.astimezone(LONDON).date()] += number
    assert {row["local_date"]: row["units"] for row in rows} == dict(units)
    (utc,) = local.warehouse.rows(f"select {MEASURES} from marts.sales_hourly")
    lines = "select sum(quantity) as n, sum(quantity * unit_price) as amount from core.order_line"
    (facts,) = local.warehouse.rows(lines)
    assert {name: sum(row[name] for row in rows) for name in utc} == utc
    assert (utc["units"], utc["net_sales"]) == (facts["n"], facts["amount"])


def test_days_by_local_time_are_other_than_those_by_utc_only_in_summer(local: Chain) -> None:
    other = local.warehouse.rows(
        "select order_hour from reporting.sales_by_local_hour where local_date <> to_date(order_hour) order by 1"
    )
    assert [row["order_hour"] for row in other] == [
        datetime(2026, 3, 29, 23),
        datetime(2026, 3, 30, 23),
        datetime(2026, 10, 24, 23),
    ]
