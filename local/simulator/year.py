"""The thin year: what the other topics have of the time of the real history. Daily totals follow the real orders."""

from __future__ import annotations

import numpy as np

from local.simulator import buyers
from local.simulator.events import Event, Events, concat, draws, mix
from local.simulator.interactions import Fragments
from local.simulator.market import Market
from local.simulator.order import Order, session
from local.simulator.sensors import Sensors
from local.simulator.shop import DAY_MS, HOUR_MS, SALE, Shop
from local.simulator.stock import Stock
from local.simulator.tickets import steps
from local.simulator.trade import dispatch
from local.simulator.warehouses import WAREHOUSES, warehouse

SESSION_SHARE, MOST_PRODUCTS = 0.08, 5  # of real sales that have a session, and what is looked at in it
VISITS_AN_ORDER = 0.11  # sessions without an order
STOCKED_SHARE = 40  # one product in so many has movements before the stocktaking
SENSORS, READINGS_A_DAY = 16, 2
WEEK_MS = 7 * DAY_MS


def year(market: Market, shift_ms: int) -> Events:
    """Interactions, readings, movements and tickets of the history's time, moved by shift_ms, in order of sending."""
    shop, seed = market.shop, market.pace.seed
    made: list[Event] = []
    fragments = Fragments(shop)
    for order in real_orders(shop, shift_ms):
        random = draws("thin", order.order_id)
        if order.session and random.random() < SESSION_SHARE:
            made += buyers.interactions(shop, fragments, order, DAY_MS, MOST_PRODUCTS)
        made += steps(shop, order, is_short=False, haste=1.0)
    end_ms = int(shop.baskets.order_ms[-1]) + shift_ms
    made = [event for event in made if event.event_ms < end_ms]
    made += _movements(shop, market.trade.stock, shift_ms)
    parts = [dispatch(made, draws("year", seed), 1.0)]
    parts += _visits(market, shift_ms)
    parts.append(_readings(market, shift_ms))
    return concat(parts)


def real_orders(shop: Shop, shift_ms: int) -> list[Order]:
    """The history's orders as the market knows orders; sales have a session of their own."""
    b = shop.baskets
    found = []
    columns = (b.order_ms, b.order_type, b.customer, b.country)
    for number, (order_id, at, kind, customer, country) in enumerate(
        zip(b.order_id, *(column.tolist() for column in columns))
    ):
        found.append(
            Order(
                number,
                order_id,
                at + shift_ms,
                kind,
                number,
                shop.customers[customer] if customer >= 0 else None,
                shop.countries[country],
                "web",
                session(order_id) if kind == SALE else "",
                "",
            )
        )
    return found


def _visits(market: Market, shift_ms: int) -> list[Events]:
    """Sessions without an order, a week at a time: they begin around the times of real orders."""
    order_ms = market.shop.baskets.order_ms + shift_ms
    found = []
    for week in range(int(order_ms[0]) // WEEK_MS, int(order_ms[-1]) // WEEK_MS + 1):
        of_week = order_ms[(order_ms // WEEK_MS == week) & (order_ms < order_ms[-1] - HOUR_MS)]
        random = draws("visits", market.pace.seed, week)
        count = int(random.poisson(len(of_week) * VISITS_AN_ORDER)) if len(of_week) else 0
        if count:
            begin = random.choice(of_week, count) + random.integers(-2 * HOUR_MS, 0, count)
            # The twelve bits of a salt that no rate has: none ends in 1.
            names = mix((np.uint64(1) << np.uint64(63)) + np.uint64(week << 20) + np.arange(count, dtype=np.uint64), 4)
            is_bot = random.random(count) < 0.02
            block = market.sessions.build(random, begin, is_bot, names, week * WEEK_MS + WEEK_MS // 2)
            found.append(market.sessions.render(block, slice(0, len(block.send_ms))))
    return found


def _readings(market: Market, shift_ms: int) -> Events:
    """Two readings a day of the first sensors."""
    order_ms = market.shop.baskets.order_ms
    sensors = Sensors(market.pace, SENSORS, DAY_MS // READINGS_A_DAY)
    first, last = ((int(order_ms[at]) + shift_ms) * SENSORS // sensors.period_ms for at in (0, -1))
    return sensors.render(*sensors.build(draws("readings", market.pace.seed), np.arange(first, last)))


def _movements(shop: Shop, stock: Stock, shift_ms: int) -> list[Event]:
    """Of one product in STOCKED_SHARE: a first count, what the real orders moved, and a refill each Monday morning."""
    b = shop.baskets
    order = np.repeat(np.arange(len(b.order_id)), np.diff(b.first))
    chosen = shop.is_stocked & (mix(np.arange(len(shop.products)), 51) % np.uint64(STOCKED_SHARE) == 0)
    lines = np.flatnonzero(chosen[b.line_product] & (b.order_type[order] == SALE) & (b.line_quantity > 0))
    found: list[Event] = []
    gone: dict[tuple[int, int], int] = {}
    houses = np.array([[warehouse(country, number) for number in range(3)] for country in shop.countries])
    at_ms = b.order_ms[order[lines]] + shift_ms + 1_800_000
    shelf = b.line_product[lines] * len(WAREHOUSES) + houses[b.country[order[lines]], order[lines] % 3]
    week = (at_ms + 3 * DAY_MS) // WEEK_MS  # from Monday on
    for line, at, s, w in zip(lines.tolist(), at_ms.tolist(), shelf.tolist(), week.tolist()):
        gone[s, w] = gone.get((s, w), 0) + int(b.line_quantity[line])
        order_id = b.order_id[order[line]]
        name = f"{order_id}-{line - int(b.first[order[line]]) + 1}"
        found.append(stock.movement(at, s, "sale", -int(b.line_quantity[line]), name, order_id=order_id))
    highest: dict[int, int] = {}
    for (s, w), pieces in gone.items():
        highest[s] = max(highest.get(s, 0), pieces)
        monday = (w + 1) * WEEK_MS - 3 * DAY_MS + 5 * HOUR_MS
        if monday < int(b.order_ms[-1]) + shift_ms:
            found.append(stock.movement(monday, s, "refill", pieces, f"{monday // 1000}-year"))
    first_ms = int(b.order_ms[0]) + shift_ms
    found += [stock.movement(first_ms, s, "count", pieces + 10, "first") for s, pieces in highest.items()]
    return found
