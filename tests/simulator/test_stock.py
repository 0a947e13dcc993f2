"""Stock: what is on a shelf follows from the movements, all of them."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from local.simulator import shop
from local.simulator.events import CUSTOMERS, ORDERS, STOCK
from local.simulator.market import Market
from local.simulator.pace import Pace
from local.simulator.shop import HOUR_MS
from local.simulator.warehouses import WAREHOUSES
from tests.simulator.conftest import MONDAY_MS, SEED


@pytest.mark.parametrize(("rate", "days"), [(5, 9), (2_000, 12)])
def test_stock_never_changes_without_a_movement_and_never_falls_below_nothing(
    known: shop.Shop, rate: float, days: int
) -> None:
    market = Market(known, Pace.of(SEED, rate))
    stock, first = market.trade.stock, (MONDAY_MS + 11 * HOUR_MS) // market.pace.day_ms
    product_of = {code: at for at, code in enumerate(known.products)}
    shelves = stock.on_shelf(first * market.pace.day_ms)
    ran_out = 0
    kinds: Counter[str] = Counter()
    for day in range(first, first + days):
        for event in sorted(stock.events(day), key=lambda event: event.event_ms):
            moved = json.loads(f"{{{event.body}}}")
            shelf = product_of[moved["product_id"]], WAREHOUSES.index(moved["warehouse_id"])
            kinds[moved["movement_type"]] += 1
            if moved["movement_type"] == "count":
                assert shelves[shelf] - moved["quantity"] in (0, 1)
                shelves[shelf] = moved["quantity"]
            else:
                shelves[shelf] += moved["quantity"]
            assert shelves[shelf] >= 0
            ran_out += shelves[shelf] == 0
        assert np.array_equal(shelves, stock.on_shelf((day + 1) * market.pace.day_ms))
    assert set(kinds) == {"sale", "return", "refill", "transfer", "count"}
    assert ran_out > 0


def test_opening_of_a_market_has_all_shelves_and_everyone_who_orders(known: shop.Shop) -> None:
    market = Market(known, Pace.of(SEED, 50))
    noon = MONDAY_MS + 11 * HOUR_MS
    opening = market.trade.opening(noon)
    counted = [json.loads(opening.values[row]) for row in np.flatnonzero(opening.topic == STOCK).tolist()]
    product_of = {code: at for at, code in enumerate(known.products)}
    shelves = np.zeros_like(market.trade.stock.levels)
    for count in counted:
        assert count["movement_type"] == "count"
        shelves[product_of[count["product_id"]], WAREHOUSES.index(count["warehouse_id"])] = count["quantity"]
    assert np.array_equal(shelves[known.is_stocked], market.trade.stock.on_shelf(noon)[known.is_stocked])
    created = {key for key, topic in zip(opening.keys, opening.topic.tolist()) if topic == CUSTOMERS}
    coming = market.events(noon, noon + HOUR_MS)
    opened = {key for key, topic in zip(coming.keys, coming.topic.tolist()) if topic == CUSTOMERS}
    ordering = {key for key, topic in zip(coming.keys, coming.topic.tolist()) if topic == ORDERS and key[:1] == b"N"}
    assert ordering
    assert ordering <= created | opened


def test_transfers_leave_one_warehouse_for_another(market: Market) -> None:
    day = MONDAY_MS // market.pace.day_ms
    events = [event for at in range(3) for event in market.trade.stock.events(day + at)]
    moves = [json.loads(f"{{{event.body}}}") for event in events]
    sent = Counter(
        (m["product_id"], m["warehouse_id"], m["other_warehouse_id"], -m["quantity"])
        for m in moves
        if m["movement_type"] == "transfer" and m["quantity"] < 0
    )
    came = Counter(
        (m["product_id"], m["other_warehouse_id"], m["warehouse_id"], m["quantity"])
        for m in moves
        if m["movement_type"] == "transfer" and m["quantity"] > 0
    )
    assert sent
    # Goods that left on the last day may be on their way.
    assert sum((sent - came).values()) <= 0.05 * sent.total()


def test_orders_that_ran_short_are_followed_by_more_tickets_about_delay(known: shop.Shop) -> None:
    market = Market(known, Pace.of(SEED, 50))
    first = MONDAY_MS // market.pace.day_ms
    short = {
        f"{order.order_id}"
        for day in range(first, first + 30)
        for order in market.trade.orders.day(day)
        if order.number in market.trade.stock.short(day)
    }
    events = [event for day in range(first + 6, first + 30) for event in market.trade.tickets.events(day)]
    late = {found["order_id"] for event in events if (found := json.loads(f"{{{event.body}}}"))["reason"] == "late"}
    assert len(late & short) > len(late) / 2
