"""What `make up` sends after the history, and the seam to the live market."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest

from local.simulator import preload, shop
from local.simulator.events import (
    BEYOND,
    CUSTOMERS,
    DUPLICATE,
    ORDERS,
    PRODUCTS,
    STOCK,
    TOPICS,
    Events,
    concat,
)
from local.simulator.market import Market
from local.simulator.pace import DEFAULT_RATE, Pace
from local.simulator.shop import DAY_MS, HOUR_MS
from local.simulator.warehouses import WAREHOUSES
from local.simulator.year import WEEK_MS
from tests.simulator.conftest import MONDAY_MS, SEED
from tests.simulator.contracts import fault

UNTIL_MS = MONDAY_MS + 14 * HOUR_MS
WEEKS = 780  # the history's last Friday becomes 2026-11-20


@pytest.fixture(scope="module")
def sent(known: shop.Shop) -> Events:
    return concat(list(preload.parts(Market(known, Pace(SEED, preload.LAST_DAY_RATE, 1.0)), WEEKS, UNTIL_MS)))


def accepted(sent: Events, topic: int) -> list[dict[str, Any]]:
    rows = np.flatnonzero((sent.topic == topic) & (sent.kind < BEYOND) & (sent.kind != DUPLICATE))
    return [json.loads(sent.values[row]) for row in rows.tolist()]


def test_preload_is_of_the_agreed_size_and_has_no_id_twice(sent: Events) -> None:
    assert 260_000 < len(sent) < 340_000
    assert set(sent.topic.tolist()) == set(range(len(TOPICS)))
    first = [sent.ids[row] for row in np.flatnonzero(sent.kind != DUPLICATE).tolist()]
    assert len(first) == len(set(first))
    last_day = (sent.event_ms > UNTIL_MS - DAY_MS) & (sent.event_ms < UNTIL_MS)
    assert 2.0 < last_day.sum() / (DAY_MS / 1000) < 2.8


def test_preload_is_accepted_by_the_contracts(sent: Events) -> None:
    for row in np.flatnonzero((sent.kind < BEYOND) & (sent.event_ms < UNTIL_MS - DAY_MS)).tolist():
        assert fault(TOPICS[int(sent.topic[row])], sent.values[row], UNTIL_MS) is None, sent.values[row]


def test_orders_between_history_and_now_leave_no_hole_and_no_wall(known: shop.Shop, sent: Events) -> None:
    end_ms = int(known.baskets.order_ms[-1]) + WEEKS * WEEK_MS
    of_orders = sent.event_ms[(sent.topic == ORDERS) & (sent.kind != DUPLICATE)]
    assert of_orders.min() >= end_ms
    # Friday afternoon, Saturday, Sunday, Monday until 14:00.
    for start, end in (
        (end_ms, MONDAY_MS - 2 * DAY_MS),
        (MONDAY_MS - 2 * DAY_MS, MONDAY_MS - DAY_MS),
        (MONDAY_MS - DAY_MS, MONDAY_MS),
        (MONDAY_MS, UNTIL_MS),
    ):
        expected = known.expected_orders(start, end)
        found = ((of_orders >= start) & (of_orders < end)).sum()
        assert abs(found - expected) <= max(0.3 * expected, 3 * expected**0.5), (start, found, expected)


def test_every_customer_and_product_exists_before_the_first_order(known: shop.Shop, sent: Events) -> None:
    b, shift_ms = known.baskets, WEEKS * WEEK_MS
    created: dict[int, dict[str, int]] = {PRODUCTS: {}, CUSTOMERS: {}}
    rows = np.flatnonzero((sent.topic >= PRODUCTS) & (sent.kind == 0))
    for row in rows.tolist():
        if b'"change_type":"created"' in sent.values[row]:
            created[int(sent.topic[row])][sent.keys[row].decode()] = int(sent.event_ms[row])
    order_ms = np.repeat(b.order_ms, np.diff(b.first)) + shift_ms
    first_line = dict(zip(b.line_product[::-1].tolist(), order_ms[::-1].tolist()))
    assert all(created[PRODUCTS][known.products[at]] <= ms for at, ms in first_line.items())
    first_order = dict(zip(b.customer[::-1].tolist(), (b.order_ms[::-1] + shift_ms).tolist()))
    first_order.pop(-1)
    assert all(created[CUSTOMERS][known.customers[at]] <= ms for at, ms in first_order.items())
    assert (len(first_line), len(first_order)) == (4_070, 4_372)


def test_changes_of_the_history_are_moves_renames_and_a_few_deletes(sent: Events) -> None:
    for topic, key in ((PRODUCTS, "product_id"), (CUSTOMERS, "customer_id")):
        changes = Counter(event["change_type"] for event in accepted(sent, topic))
        assert changes["changed"] > 100, key
        assert 20 < changes["deleted"] < 60, key
    names = defaultdict(list)
    for event in accepted(sent, PRODUCTS):
        names[event["product_id"]].append(event["product_name"])
    assert names["71053"][:2] == ["WHITE METAL LANTERN", "WHITE MOROCCAN METAL LANTERN"]
    for event in accepted(sent, CUSTOMERS):
        assert ("contact" in event) == (event["change_type"] != "deleted")
        assert event.get("contact", {}).get("email", "@example.com").endswith("@example.com")


def test_deleted_customers_do_not_come_back(sent: Events) -> None:
    gone = {e["customer_id"]: e["event_ts"] for e in accepted(sent, CUSTOMERS) if e["change_type"] == "deleted"}
    back = [e for e in accepted(sent, ORDERS) if e["event_ts"] > gone.get(e.get("customer_id"), "9")]
    assert gone
    assert not back


def test_thin_year_follows_the_real_orders_day_by_day(known: shop.Shop, sent: Events) -> None:
    start, end = int(known.baskets.order_ms[0]) + WEEKS * WEEK_MS, int(known.baskets.order_ms[-1]) + WEEKS * WEEK_MS
    orders = np.bincount((known.baskets.order_ms + WEEKS * WEEK_MS - start) // WEEK_MS)[1:-1]
    of_web = sent.event_ms[(sent.topic <= 1) & (sent.kind == 0) & (sent.event_ms >= start) & (sent.event_ms < end)]
    visits = np.bincount((of_web - start) // WEEK_MS)[1 : len(orders) + 1]
    assert np.corrcoef(orders, visits)[0, 1] > 0.8
    real = set(known.baskets.order_id)
    bought = [e["order_id"] for topic in (0, 1) for e in accepted(sent, topic) if e["interaction_type"] == "purchase"]
    assert sum(order_id in real for order_id in bought) > 800


def test_stock_after_the_stocktaking_is_that_of_the_live_market(known: shop.Shop, sent: Events) -> None:
    live = Market(known, Pace.of(SEED, DEFAULT_RATE))
    stock = np.zeros_like(live.trade.stock.levels)
    product_of = {code: at for at, code in enumerate(known.products)}
    moves = sorted(
        (row for row in np.flatnonzero((sent.topic == STOCK) & (sent.kind != DUPLICATE)).tolist()),
        key=lambda row: sent.event_ms[row],
    )
    broken = set()
    for row in moves:
        # One in 200 is malformed: its shelf is not to be known.
        if sent.kind[row] >= BEYOND:
            broken.add(sent.keys[row].decode())
            continue
        moved = json.loads(sent.values[row])
        shelf = product_of[moved["product_id"]], WAREHOUSES.index(moved["warehouse_id"])
        stock[shelf] = moved["quantity"] if moved["movement_type"] == "count" else stock[shelf] + moved["quantity"]
    # What is late has not come yet.
    coming = live.events(UNTIL_MS, UNTIL_MS + 30 * HOUR_MS)
    for row in np.flatnonzero((coming.topic == STOCK) & (coming.event_ms < UNTIL_MS)).tolist():
        broken.add(coming.keys[row].decode())
    expected = live.trade.stock.on_shelf(UNTIL_MS)
    known_shelves = [at for code, at in product_of.items() if code not in broken and known.is_stocked[at]]
    assert len(known_shelves) > 3_500
    assert np.array_equal(stock[known_shelves], expected[known_shelves])


def test_live_market_goes_on_without_an_id_of_the_preload(known: shop.Shop, sent: Events) -> None:
    live = Market(known, Pace.of(SEED, DEFAULT_RATE)).events(UNTIL_MS, UNTIL_MS + 2 * HOUR_MS)
    new = {live.ids[row] for row in np.flatnonzero(live.kind != DUPLICATE).tolist()}
    assert not new & set(sent.ids)
