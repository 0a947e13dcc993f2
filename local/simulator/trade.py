"""The trade of a market day: orders, the sessions they were placed in, stock, tickets, accounts, prices."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from local.simulator import buyers, catalog, faults
from local.simulator.accounts import Accounts
from local.simulator.events import (
    CUT,
    DUPLICATE,
    LATE,
    MOBILE,
    NORMAL,
    WEB,
    Event,
    Events,
    Numbers,
    draws,
    instants,
)
from local.simulator.interactions import Fragments
from local.simulator.orders import Orders
from local.simulator.pace import Pace
from local.simulator.shop import Shop
from local.simulator.stock import Stock
from local.simulator.tickets import Tickets

PRICE_CHANGES_A_DAY = 8.0


class Trade:
    """The source of all that follows from orders."""

    def __init__(self, shop: Shop, pace: Pace) -> None:
        self.shop, self.pace = shop, pace
        self.accounts = Accounts(shop, pace)
        self.orders = Orders(shop, pace, self.accounts)
        self.stock = Stock(shop, pace, self.orders)
        self.tickets = Tickets(shop, pace, self.orders, self.stock)
        self._fragments = Fragments(shop)
        self.day = lru_cache(maxsize=6)(self._day)

    def events(self, start_ms: int, end_ms: int) -> list[Events]:
        """What the trade sends in [start_ms, end_ms)."""
        found = []
        # What is late is sent later; sessions begin up to a day before their order.
        first_day = (start_ms - faults.reach_ms(self.pace.haste)) // self.pace.day_ms
        for day in range(first_day, (end_ms - 1) // self.pace.day_ms + 2):
            events = self.day(day)
            first, last = np.searchsorted(events.send_ms, [start_ms, end_ms]).tolist()
            if first < last:
                found.append(events.take(np.arange(first, last)))
        return found

    def opening(self, moment_ms: int) -> Events:
        """What has to be known of this market where it follows another one: the accounts of yesterday and today, which
        order, and what is on the shelves. All of it is sent at the moment."""
        day = moment_ms // self.pace.day_ms
        made = [e for each in (day - 1, day) for e in self.accounts.openings(each) if e.event_ms < moment_ms]
        made += self.stock.stocktaking(moment_ms)
        events = dispatch(made, draws("opening", self.pace.seed, moment_ms), 1.0, is_faulty=False)
        kind = np.where(moment_ms - events.event_ms > faults.LATE_AFTER_MS, LATE, NORMAL).astype(np.int8)
        return replace(events, send_ms=np.full(len(events), moment_ms), kind=kind)

    def _day(self, day: int) -> Events:
        made: list[Event] = []
        for order in self.orders.day(day):
            made.append(self.orders.event(order))
            if order.session:
                made += buyers.interactions(self.shop, self._fragments, order, self.pace.day_ms)
        made += self.stock.events(day)
        made += self.tickets.events(day)
        made += self.accounts.events(day)
        made += self._price_changes(day)
        return dispatch(made, draws("trade", self.pace.seed, self.pace.trade * 1000, day), self.pace.haste)

    def _price_changes(self, day: int) -> list[Event]:
        random = draws("prices", self.pace.seed, self.pace.trade * 1000, day)
        start, end = day * self.pace.day_ms, (day + 1) * self.pace.day_ms
        expected = self.shop.expected_orders(start, end) * self.pace.trade * PRICE_CHANGES_A_DAY / 110
        found = []
        for number in range(int(random.poisson(expected))):
            product, at = int(random.integers(0, len(self.shop.products))), int(random.integers(start, end))
            if product in self.shop.discontinued or not self.shop.prices_mills[product]:
                continue
            code = self.shop.products[product]
            price = int(self.shop.prices_mills[product] * random.uniform(0.9, 1.12)) // 10 * 10
            event_id = f"product:{code}:{at // 1000}-{self.pace.mark}{number}"
            reorder = self.stock.reorder_point(product)
            found.append(catalog.change(code, self.shop.current_name(product), price, reorder, "changed", at, event_id))
        return found


def dispatch(made: list[Event], random: np.random.Generator, haste: float, *, is_faulty: bool = True) -> Events:
    """Events as they are sent, with faults: late events are sent later, devices have wrong clocks."""
    count = len(made)
    event_ms = _times(made)
    topic = np.array([event.topic for event in made], np.int8)
    label = np.array([event.label for event in made], np.int8)
    send_ms = event_ms + 20 + random.exponential(150, count).astype(np.int64).clip(0, 5_000)
    delays = faults.delays(random, count, haste)
    late = random.random(count) < faults.LATE_SHARE
    send_ms = np.where(late, send_ms + delays, send_ms)
    kind = np.where(late, LATE, NORMAL).astype(np.int8)
    # Servers' clocks are right; those of visitors' devices are not always.
    clock, ms = faults.clocks(random.random(count), random.random(count))
    clock = np.where(np.isin(topic, (WEB, MOBILE)) & ~late, clock, NORMAL).astype(np.int8)
    kind = np.where(clock != NORMAL, clock, kind)
    event_ms = np.where(clock != NORMAL, event_ms + ms, event_ms)
    if not is_faulty:
        send_ms, event_ms, kind = np.where(late, send_ms - delays, send_ms), _times(made), np.zeros(count, np.int8)
    twice, lag = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if is_faulty:
        kind, twice, lag = faults.strike(random, kind, int(faults.AGAIN_MS * haste))
    lag, twice = lag[kind[twice] < CUT], twice[kind[twice] < CUT]
    rows = np.concatenate([np.arange(count), twice])
    send_ms = np.concatenate([send_ms, send_ms[twice] + lag])
    kind = np.concatenate([kind, np.full(len(twice), DUPLICATE, np.int8)])
    order = np.argsort(send_ms, kind="stable")
    rows, kind = rows[order], kind[order]
    texts = instants(event_ms)
    whole = [f'{{"event_id":"{e.event_id}","event_ts":"{t}Z",{e.body}}}'.encode() for e, t in zip(made, texts)]
    values = [whole[i] for i in rows.tolist()]
    faults.spoil_all(kind, topic[rows], values)
    return Events(
        send_ms[order],
        event_ms[rows],
        topic[rows],
        kind,
        label[rows],
        [made[i].event_id for i in rows.tolist()],
        [made[i].key.encode() for i in rows.tolist()],
        values,
    )


def _times(made: list[Event]) -> Numbers:
    return np.array([event.event_ms for event in made], np.int64)
