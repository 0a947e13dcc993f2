"""All topics through the chain: dimensions, sessions and marts equal an independent computation over all events, and a
rebuild from core changes nothing, whatever the slices the events came in."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import yaml

from local.instance import ROOT
from madhatter import publish
from tests.pipeline import market_events
from tests.pipeline.chain import TABLES, TOPIC, Chain, empty_chain
from tests.pipeline.test_models import random_orders
from tests.stand_ins import Snowflake

BEGIN, END = datetime(1900, 1, 1), datetime(9999, 12, 31)
SLICES = 4
DAYS = ["2011-01-04", "2011-01-05", "2011-01-06"]
MARTS = ROOT / "include" / "sql" / "marts"
TWINS: dict[str, dict[str, Any]] = {path.stem: yaml.safe_load(path.read_text()) for path in MARTS.glob("*/*.yml")}


@pytest.fixture(scope="module")
def market(snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Published slices of random events of all topics, most of them late to the slices before; with duplicates."""
    chance = random.Random(23)
    chain = empty_chain(snowflake.open(), tmp_path_factory.mktemp("market"))
    chain.chunk_size = 100
    for number in range(SLICES):
        chain.send(0, *random_orders(chance, 150, f"R{number}-"))
        for topic, found in market_events.events(chance, f"{number}", 12).items():
            values = [market_events.value(event) for event in found]
            chain.send(0, *values, b"junk", *values[:2], topic=topic)
        chain.run(f"hour-{number}")
    publish.roll_up(chain.warehouse, DAYS)
    yield chain
    chain.warehouse.close()


def events(chain: Chain, *topics: str) -> list[tuple[int, dict[str, Any]]]:
    """(offset, event) of the topics' valid events, each once."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for (topic, _), values in chain.log.items():
        for offset, value in enumerate(values):
            if topic in topics and value and value.startswith(b"{"):
                event = json.loads(value, parse_float=Decimal)
                found.setdefault(event["event_id"], (offset, event))
    return list(found.values())


def at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["event_ts"].removesuffix("Z"))


def versions(chain: Chain, topic: str, key: str, columns: tuple[str, ...]) -> dict[str, list[tuple[Any, ...]]]:
    """Key -> [(values, is_deleted, from, to)]: of changes at a moment the last holds, equal ones in a row are one."""
    states: dict[str, dict[datetime, tuple[Any, ...]]] = defaultdict(dict)
    for _, event in sorted(events(chain, topic), key=lambda item: item[0]):
        state = (*(event.get(column) for column in columns), event["change_type"] == "deleted")
        states[event[key]][at(event)] = state
    found = {}
    for name, by_moment in states.items():
        kept: list[tuple[datetime, tuple[Any, ...]]] = []
        for moment, state in sorted(by_moment.items()):
            if not kept or kept[-1][1] != state:
                kept.append((moment, state))
        starts = [BEGIN, *(moment for moment, _ in kept[1:])]
        ends = [*(moment for moment, _ in kept[1:]), END]
        found[name] = [(state, start, end) for (_, state), start, end in zip(kept, starts, ends, strict=True)]
    return found


@pytest.mark.parametrize(
    ("topic", "table", "key", "columns"),
    [
        ("catalog.products", "core.product", "product_id", ("product_name", "category", "reorder_point")),
        ("crm.customers", "core.customer", "customer_id", ("country", "accepts_marketing")),
    ],
)
def test_versions_of_a_dimension_are_those_of_all_changes_without_gap_or_overlap(
    market: Chain, topic: str, table: str, key: str, columns: tuple[str, ...]
) -> None:
    compared = ("list_price",) if table == "core.product" else ()
    rows = market.warehouse.rows(f"select * from {table} order by {key}, valid_from_ts")
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows:
        state = (*(row[column] for column in (*columns, *compared)), row["is_deleted"])
        found[row[key]].append((state, row["valid_from_ts"], row["valid_to_ts"]))
        assert row["is_current"] == (row["valid_to_ts"] == END)
    assert dict(found) == versions(market, topic, key, (*columns, *compared))


def test_contact_is_kept_apart_and_ends_with_the_account(market: Chain) -> None:
    expected = {e["event_id"] for _, e in events(market, "crm.customers") if e["contact"]}
    rows = market.warehouse.rows("select event_id, customer_name, email_address from core.customer_contact")
    assert {row["event_id"] for row in rows} == expected
    assert {(row["customer_name"], row["email_address"]) for row in rows} == {("Ada Byron", "ada@example.com")}


def sessions(chain: Chain) -> list[tuple[Any, ...]]:
    """(visitor, start, end, interactions, product views, purchases) by a walk over each visitor's events."""
    by_visitor: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, event in events(chain, "web.interactions", "mobile.interactions"):
        by_visitor[event["visitor_id"]].append(event)
    found = []
    for visitor, own in by_visitor.items():
        cut: list[list[dict[str, Any]]] = []
        for event in sorted(own, key=lambda e: (at(e), e["event_id"])):
            if not cut or at(event) - at(cut[-1][-1]) > timedelta(minutes=30):
                cut.append([])
            cut[-1].append(event)
        for part in cut:
            kinds = Counter(event["interaction_type"] for event in part)
            counts = (len(part), kinds["product_view"], kinds["purchase"])
            found.append((visitor, at(part[0]), at(part[-1]), *counts, part[0]["country"]))
    return sorted(found)


def test_sessions_are_cut_by_half_an_hour_without_an_event_across_slices_and_midnight(market: Chain) -> None:
    names = ("visitor_id", "start_ts", "end_ts", "interactions", "product_views", "purchases", "country")
    rows = market.warehouse.rows("select * from marts.session")
    expected = sessions(market)
    assert sorted(tuple(row[name] for name in names) for row in rows) == expected
    assert any(start.date() < end.date() for _, start, end, *_ in expected)
    (funnel,) = market.warehouse.rows(
        "select sum(sessions) as n, sum(with_purchase) as bought from marts.funnel_hourly"
    )
    assert (funnel["n"], funnel["bought"]) == (len(expected), sum(row[5] > 0 for row in expected))


def test_rebuild_from_core_is_what_the_slices_have_made(market: Chain) -> None:
    before = market.content("marts")
    hours = market.warehouse.rows("select distinct date_trunc('hour', event_ts) as event_hour from ops.event")
    with market.warehouse.transaction():
        for table in TABLES["marts"]:
            market.warehouse.run(f"delete from marts.{table}")
        publish.compute_hours(market.warehouse, sorted(row["event_hour"].isoformat() for row in hours))
    publish.roll_up(market.warehouse, DAYS)
    after = market.content("marts")
    assert after == before


def test_every_topic_is_balanced_to_the_last_event(market: Chain) -> None:
    rows = {row["topic"]: row for row in market.warehouse.rows("select * from ops.reconciliation where partition = 0")}
    assert all(row["is_balanced"] for row in rows.values())
    for (topic, partition), values in market.log.items():
        if partition == 0 and topic != TOPIC:
            row = rows[topic]
            counts = (row["delivered"], row["published"], row["duplicates"], row["dead_letters"])
            assert counts == (len(values), len(values) - 3 * SLICES, 2 * SLICES, SLICES)


def test_products_of_a_day_add_up_to_its_categories_as_of_the_time_of_each_order(market: Chain) -> None:
    (products,) = market.warehouse.rows(
        "select sum(net_sales) as net, count(distinct category) as n from marts.product_daily"
    )
    by_category = "select category, sum(net_sales) as net from {} group by category order by category"
    assert market.warehouse.rows(by_category.format("marts.product_daily")) == market.warehouse.rows(
        by_category.format("marts.sales_category_daily")
    )
    assert products["n"] > 1


def test_stock_is_the_last_count_and_what_was_booked_since(market: Chain) -> None:
    stock: dict[tuple[str, str], int] = defaultdict(int)
    ordered = sorted(events(market, "inventory.movements"), key=lambda item: (at(item[1]), item[0]))
    # What is booked at the moment of a count is part of it.
    for _, event in sorted(ordered, key=lambda item: (at(item[1]), item[1]["movement_type"] == "count", item[0])):
        place = (event["warehouse_id"], event["product_id"])
        stock[place] = event["quantity"] + (0 if event["movement_type"] == "count" else stock[place])
    rows = market.warehouse.rows("select * from reporting.stock_position")
    assert {(row["warehouse_id"], row["product_id"]): row["stock"] for row in rows} == dict(stock)


def test_every_mart_has_a_twin_and_every_statement_too() -> None:
    assert set(TWINS) == set(TABLES["marts"])
    assert {path.stem for path in MARTS.glob("*/*.sql")} <= set(TWINS)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_table_has_the_columns_of_its_twin(market: Chain, name: str) -> None:
    columns = market.warehouse.rows(f"describe table marts.{name}")
    assert [row["name"].lower() for row in columns] == list(TWINS[name]["columns"])
    assert TWINS[name]["table"] == f"marts.{name}"


@pytest.mark.parametrize("name", sorted(TWINS))
def test_rows_keep_grain_and_tests_of_their_twin(market: Chain, name: str) -> None:
    twin = TWINS[name]
    grain = ", ".join(twin["grain"])
    required = [column for column in twin["columns"] if column not in twin.get("nullable", ())]
    faults = {
        "a row": f"select 1 where not exists (select 1 from marts.{name})",
        grain: f"select {grain} from marts.{name} group by {grain} having count(*) > 1",
        **{f"{c} is not null": f"select * from marts.{name} where {c} is null" for c in required},
        **{test: f"select * from marts.{name} where not coalesce({test}, false)" for test in twin["tests"]},
    }
    assert {rule: market.warehouse.rows(sql)[:3] for rule, sql in faults.items()} == {rule: [] for rule in faults}


@pytest.mark.parametrize(
    ("view", "name"),
    [
        ("customers_by_day", "customer_daily"),
        ("customer_segment", "customer_segment"),
        ("cohorts_by_month", "cohort_monthly"),
        ("product_affinity", "product_affinity"),
        ("stock_cover", "stock_cover"),
        ("support_by_day", "support_daily"),
    ],
)
def test_analysts_see_each_row_of_a_mart_once(market: Chain, view: str, name: str) -> None:
    columns = ", ".join(TWINS[name]["columns"])
    seen = market.warehouse.rows(f"select count(*) as n, hash_agg({columns}) as content from reporting.{view}")
    assert seen == market.warehouse.rows(f"select count(*) as n, hash_agg({columns}) as content from marts.{name}")
