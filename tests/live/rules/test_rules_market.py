"""The rules on the market, whose account knows what is what."""

from __future__ import annotations

import numpy as np
import pytest

from bench.signals import MONDAY_MS, known, orders, play, rows, snapshot
from include.beam.rules import Found
from include.beam.rules.rule import LATENESS_MS
from include.beam.rules.sensors import Sensors
from include.beam.rules.stock import LowStock
from local.simulator import sensors
from local.simulator.events import CUT, IOT, STOCK
from local.simulator.market import Market
from local.simulator.pace import Pace
from local.simulator.warehouses import WAREHOUSES

SEED = 77
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(known(), Pace(SEED, 20.0, 60.0))


def test_every_fraudulent_order_that_the_stream_takes_has_a_signal() -> None:
    seen = orders(SEED, trade=60.0, days=20)
    signalled = {each.event_id for each in seen.found}
    fraud = {event_id for event_id, label in seen.labels.items() if label}
    assert len(fraud) > 50
    assert fraud & seen.taken <= signalled
    honest = set(seen.labels) - fraud
    assert len(honest & signalled) < len(honest) / 3


def test_stock_is_the_shelves_of_the_market(market: Market) -> None:
    # Copies that come half an hour later are booked again, and what is late beyond the window is still to come: both
    # are left out here. Every shelf that has moved must then be right to the piece.
    start, end = MONDAY_MS + 9 * HOUR_MS, MONDAY_MS + 12 * HOUR_MS
    rule = LowStock(snapshot(market, start))
    day = market.pace.day_ms
    sent = [market.trade.day(number) for number in range(start // day, end // day)]
    movements = [part.take(np.flatnonzero((part.topic == STOCK) & (part.kind < CUT))) for part in sent]
    spoiled = {event_id for part in sent for event_id, kind in zip(part.ids, part.kind.tolist()) if kind >= CUT}
    made = sorted((row for row, _ in rows(movements, [STOCK])), key=lambda row: row.arrival_ms)
    first: dict[str, int] = {}
    found: list[Found] = []
    for row in made:
        if row.arrival_ms - first.setdefault(row.event_id, row.arrival_ms) <= 30 * 60_000:
            for key in rule.keys(row):
                found += rule.observe(key, row)
    assert sum(row.arrival_ms - row.event_ms > LATENESS_MS for row in made) > 100
    shelves, product_of = market.trade.stock.on_shelf(end), {code: n for n, code in enumerate(market.shop.products)}
    damaged = {tuple(event_id.split("-")[0].split(":")[1:]) for event_id in spoiled}
    moved = {(row.warehouse_id, row.product_id) for row in made}
    wrong = []
    for house, code in moved:
        shelf = product_of[code] * len(WAREHOUSES) + WAREHOUSES.index(house)
        if (f"{house[0]}{shelf}",) not in damaged:
            stock = int(shelves[product_of[code], WAREHOUSES.index(house)])
            if rule.stock(f"shelf:{house}/{code}") != stock:
                wrong.append((house, code, rule.stock(f"shelf:{house}/{code}"), stock))
    assert not wrong
    assert found


def test_stuck_sensors_are_found_and_healthy_ones_are_not() -> None:
    pace = Pace(SEED, 5.0, 1.0)
    source = sensors.Sensors(pace, devices=304, period_ms=60_000)
    parts = source.events(MONDAY_MS, MONDAY_MS + 12 * HOUR_MS)
    made = sorted(rows(parts, [IOT]), key=lambda each: each[0].arrival_ms)
    found = [each for each in play((row for row, _ in made), [Sensors], None) if each.kind == "sensor_out_of_range"]
    stuck = {row.device_id for row, label in made if label == "sensor_stuck"}
    drifting = {row.device_id for row, label in made if label == "sensor_drift"}
    assert stuck
    assert stuck <= {each.features["device_id"] for each in found} <= stuck | drifting
