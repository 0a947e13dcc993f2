"""Dimensions and marts equal an independent computation over all events, whatever the slices they came in."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from madhatter import publish
from tests.pipeline.chain import Chain, empty_chain, order
from tests.stand_ins import Snowflake

PRODUCTS = ("22752", "85123A", "POST")
NAMES = ("BOX", "BIG BOX", "box?")
COUNTRIES = ("United Kingdom", "France", "Spain")


def random_orders(chance: random.Random, count: int, label: str) -> list[bytes]:
    """Orders of three products and three customers over two days, in any order of time."""
    made = []
    for number in range(count):
        lines = [
            {
                "line_no": line_no,
                "product_id": chance.choice(PRODUCTS),
                "description": chance.choice([*NAMES, None]),
                "quantity": chance.choice([-3, 0, 1, 2, 10]),
                "unit_price": chance.choice([0, 0.001, 2.55, 7.65, 1000]),
            }
            for line_no in range(1, chance.randint(2, 4))
        ]
        moment = datetime(2011, 1, 4) + timedelta(minutes=20 * chance.randint(0, 143))
        made.append(
            order(
                f"{label}{number}",
                f"{moment.isoformat()}Z",
                lines=lines,
                order_type=chance.choice(["sale", "sale", "return", "adjustment", "gift"]),
                customer_id=chance.choice(["1", "2", None]),
                country=chance.choice(COUNTRIES),
                channel=chance.choice(["web", "store"]),
            )
        )
    return made


@pytest.fixture(scope="module")
def random_chain(snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Five published slices of random orders, so that most are late to the slices before; with duplicates."""
    chance = random.Random(11)
    chain = empty_chain(snowflake.open(), tmp_path_factory.mktemp("chain"))
    for number in range(5):
        orders = random_orders(chance, 25, f"R{number}-")
        chain.send(0, *orders[:15])
        chain.send(1, *orders[15:], *orders[:3], b"junk")
        chain.run(f"hour-{number}")
    yield chain
    chain.warehouse.close()


def events(chain: Chain) -> list[dict[str, Any]]:
    """The log's valid events, each once."""
    found: dict[str, dict[str, Any]] = {}
    for partition in sorted(chain.log):
        for value in chain.log[partition]:
            if value and value.startswith(b"{"):
                event = json.loads(value, parse_float=Decimal)
                found.setdefault(event["event_id"], event)
    return list(found.values())


MEASURES = ("orders", "return_orders", "units", "gross_sales", "returned_sales", "net_sales")


def independent_sales(chain: Chain, grain: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The sales of the log's events by DuckDB, with nothing of the platform's SQL."""
    path = chain.folder / "events.json"
    path.write_text("\n".join(json.dumps(event, default=float) for event in events(chain)))
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.execute(
            f"""
            with line as (
                select date_trunc('{grain}', event_ts::timestamptz::timestamp) as moment, order_id, order_type, country,
                    channel, unnest(lines) as l
                from read_json(?, format = 'newline_delimited') where order_type in ('sale', 'return')
            )
            select moment, country, channel, count(distinct order_id) filter (order_type = 'sale'),
                count(distinct order_id) filter (order_type = 'return'), sum(l.quantity),
                sum(l.quantity * l.unit_price::decimal(12, 3)) filter (l.quantity > 0),
                sum(-l.quantity * l.unit_price::decimal(12, 3)) filter (l.quantity < 0),
                sum(l.quantity * l.unit_price::decimal(12, 3))
            from line group by all
            """,
            [str(path)],
        ).fetchall()
    return {row[:3]: tuple(value or 0 for value in row[3:]) for row in found}


def test_hourly_sales_are_what_the_events_say(random_chain: Chain) -> None:
    rows = random_chain.warehouse.rows("select * from marts.sales_hourly")
    found = {(r["order_hour"], r["country"], r["channel"]): tuple(r[name] for name in MEASURES) for r in rows}
    assert len(found) == len(rows)
    assert found == independent_sales(random_chain, "hour")


def test_sales_by_minute_are_what_the_events_say(random_chain: Chain) -> None:
    expected = independent_sales(random_chain, "minute")
    key = "minute_ts, country, channel"
    sold = random_chain.warehouse.rows(
        f"select {key}, sum(units) as units, sum(net_sales) as net_sales from marts.sales_minute group by {key}"
    )
    acts = random_chain.warehouse.rows("select * from marts.activity_minute")
    assert len(sold) == len(acts) == len(expected)
    for rows, names, places in ((sold, ("units", "net_sales"), (2, 5)), (acts, ("orders", "refunds"), (0, 1))):
        found = {(r["minute_ts"], r["country"], r["channel"]): tuple(r[name] for name in names) for r in rows}
        assert found == {at: tuple(values[place] for place in places) for at, values in expected.items()}


def test_daily_sales_are_what_the_events_say_and_again_the_same(random_chain: Chain) -> None:
    expected = independent_sales(random_chain, "day")
    for _ in range(2):
        publish.roll_up(random_chain.warehouse, ["2011-01-04", "2011-01-05"])
        rows = random_chain.warehouse.rows("select * from marts.sales_daily")
        found = {
            (datetime.combine(r["order_date"], datetime.min.time()), r["country"], r["channel"]): tuple(
                r[name] for name in MEASURES
            )
            for r in rows
        }
        assert len(found) == len(rows)
        assert found == expected


def test_daily_products_are_what_the_events_say(random_chain: Chain) -> None:
    publish.roll_up(random_chain.warehouse, ["2011-01-04", "2011-01-05"])
    expected: Counter[tuple[str, str, str]] = Counter()
    for event in events(random_chain):
        if event["order_type"] in ("sale", "return"):
            for line in event["lines"]:
                key = (event["event_ts"][:10], event["country"], line["product_id"])
                expected[key] += line["quantity"] * Decimal(line["unit_price"])  # type: ignore[assignment]
    rows = random_chain.warehouse.rows("select * from marts.product_daily")
    found = {(r["order_date"].isoformat(), r["country"], r["product_id"]): r["net_sales"] for r in rows}
    assert found == dict(expected)
    assert {row["category"] for row in rows} == {"Unknown"}  # no word about any product


def test_random_slices_are_balanced_everywhere(random_chain: Chain) -> None:
    rows = random_chain.warehouse.rows("select * from ops.reconciliation order by partition")
    assert [row["is_balanced"] for row in rows] == [True, True]
    assert [row["delivered"] for row in rows] == [75, 70]
    assert [row["dead_letters"] for row in rows] == [0, 5]
    assert sum(row["published"] for row in rows) == len(events(random_chain)) == 125
    assert sum(row["duplicates"] for row in rows) == 15


def test_open_days_are_shown_from_their_hours_until_they_are_rolled_up(random_chain: Chain) -> None:
    before = random_chain.warehouse.rows("select * from reporting.sales_by_day")
    publish.roll_up(random_chain.warehouse, ["2011-01-04"])
    after = random_chain.warehouse.rows("select * from reporting.sales_by_day")
    assert sorted(map(repr, after)) == sorted(map(repr, before))
