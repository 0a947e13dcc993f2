"""Stock by product and warehouse: it falls with sales, runs out, is refilled, sent on and counted.

Each shelf is filled up to its level once in every supply period, so the stock at any time follows from the orders since
the last refill, at most LONGEST market days back: nothing has to be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from local.simulator.events import STOCK, Event, Numbers, body, draws, mix
from local.simulator.orders import Orders
from local.simulator.pace import Pace
from local.simulator.shop import RETURN, SALE, Shop
from local.simulator.warehouses import LEEDS, LYON, SHARES, WAREHOUSES, warehouse

LONGEST = 7  # market days between two refills of a slow seller
COUNTED_SHARE = 0.03  # of refills that begin with a count


@dataclass(frozen=True)
class Moves:
    """Lines that move stock, in columns, by time. shelf: product * warehouses + warehouse; wanted: pieces ordered,
    negative for returns; moved: what really left (or came back); order: index into orders."""

    at_ms: Numbers
    shelf: Numbers
    period: Numbers
    wanted: Numbers
    moved: Numbers
    day: Numbers
    number: Numbers
    line: Numbers


class Stock:
    """The source of inventory.movements."""

    def __init__(self, shop: Shop, pace: Pace, orders: Orders) -> None:
        self.shop, self.pace, self.orders = shop, pace, orders
        self._lines = lru_cache(maxsize=24)(self._lines_of_day)
        self._ledger = lru_cache(maxsize=3)(self._ledger_of_day)
        self.short = lru_cache(maxsize=16)(self._short)

    @cached_property
    def _days_between(self) -> Numbers:
        """Market days between two refills of each product: the popular ones come daily."""
        rank = np.argsort(np.argsort(-self.shop.weights, kind="stable"), kind="stable")
        found: Numbers = np.select([rank < 500, rank < 1200, rank < 2200], [1, 2, 4], LONGEST)
        return found

    @cached_property
    def _delivery_ms(self) -> Numbers:
        """When in a market day each product comes to Leeds, milliseconds from the day's start."""
        share = 0.1 + 0.6 * (mix(np.arange(len(self.shop.products)), 41) % np.uint64(997)).astype(float) / 997
        found: Numbers = (share * self.pace.day_ms).astype(np.int64)
        return found

    @cached_property
    def levels(self) -> Numbers:
        """(products, warehouses): pieces up to which each shelf is filled."""
        shop, b = self.shop, self.shop.baskets
        recent = shop.recent[b.order_type[shop.recent] == SALE]
        at = np.concatenate([np.arange(b.first[i], b.first[i + 1]) for i in recent.tolist()])
        product, quantity = b.line_product[at], np.minimum(b.line_quantity[at], 500)
        count = len(shop.products)
        total = np.bincount(product, quantity, count)
        lines = np.bincount(product, minlength=count)
        # Where a market day is a part of a day, it may be the busiest.
        busy = 1.0 if self.pace.haste == 1 else 3.0
        a_day = total / 91 * self.pace.trade * self.pace.haste * busy
        a_line = total / np.maximum(lines, 1)
        shares = np.array(SHARES)
        level = a_day[:, None] * self._days_between[:, None] * shares * 2.5 + 5 * a_line[:, None] * (0.5 + shares) + 6
        found: Numbers = np.ceil(level).astype(np.int64)
        return found

    def reorder_point(self, product: int) -> int:
        """Pieces in all warehouses at which the product is ordered anew."""
        return int(self.levels[product].sum() // 4)

    def _lines_of_day(self, day: int) -> tuple[Numbers, ...]:
        """(at_ms, shelf, wanted, order number, line) of a day's orders; goods move some minutes after the order."""
        columns: list[list[Numbers]] = [[], [], [], [], []]
        for order in self.orders.day(day):
            if order.order_type not in (SALE, RETURN):
                continue
            product, _, quantity, _ = self.shop.lines(order.basket)
            quantity = -abs(quantity) if order.order_type == RETURN else quantity
            line = np.flatnonzero(self.shop.is_stocked[product] & (quantity != 0))
            random = draws("ship", order.order_id)
            delay = int(self.pace.haste * (300_000 + random.exponential(2_400_000)))
            house = warehouse(order.country, order.number)
            at = order.order_ms + min(delay, self.pace.day_ms // 2)
            for column, values in zip(
                columns,
                (
                    at + np.arange(len(line)),
                    product[line] * len(WAREHOUSES) + house,
                    quantity[line],
                    np.full(len(line), order.number),
                    line,
                ),
            ):
                column.append(values)
        none = np.zeros(0, np.int64)
        return tuple(np.concatenate([none, *column]) for column in columns)

    def _offset_ms(self, shelf: Numbers) -> Numbers:
        """When in a market day each shelf is filled: Leeds first, Lyon last and from Leeds."""
        at: Numbers = shelf % len(WAREHOUSES) * (self.pace.day_ms * 3 // 100)
        at += self._delivery_ms[shelf // len(WAREHOUSES)]
        return at

    def _period(self, shelf: Numbers, at_ms: Numbers) -> Numbers:
        """The market day in which the shelf's current supply period began."""
        product = shelf // len(WAREHOUSES)
        day = (at_ms - self._offset_ms(shelf)) // self.pace.day_ms
        began: Numbers = day - (day + product) % self._days_between[product]
        return began

    def refill_ms(self, shelf: Numbers, period: Numbers) -> Numbers:
        """When the supply period begins; the goods are there a millisecond before."""
        return period * self.pace.day_ms + self._offset_ms(shelf)

    def _ledger_of_day(self, day: int) -> Moves:
        """All moves that can touch the supply periods of a day, with what was really moved."""
        parts, days = [], []
        # A period that ends today began at most LONGEST days and a part of one ago; goods move a day after the order.
        for each in range(day - LONGEST - 3, day + 1):
            lines = self._lines(each)
            parts.append(lines)
            days.append(np.full(len(lines[0]), each))
        at_ms, shelf, wanted, number, line = (np.concatenate(column) for column in zip(*parts))
        of_day = np.concatenate(days)
        period = self._period(shelf, at_ms)
        order = np.lexsort((line, number, at_ms, period, shelf))
        at_ms, shelf, wanted, number, line, of_day, period = (
            column[order] for column in (at_ms, shelf, wanted, number, line, of_day, period)
        )
        # Sales take what is left of the level; returns put back at most what was taken before, the rest is scrapped.
        # Both follow from what came before alone, so that the day's ledger and the next one agree.
        group = _groups(shelf, period)
        level = self.levels.reshape(-1)[shelf]
        sold = np.maximum(wanted, 0)
        left = np.maximum(level - _running(sold, group), 0)
        moved = np.minimum(sold, left)
        back = np.maximum(-wanted, 0)
        returned = np.minimum(back, np.maximum(_running(moved, group) - _running(back, group), 0))
        return Moves(at_ms, shelf, period, wanted, moved - returned, of_day, number, line)

    def _short(self, day: int) -> set[int]:
        """Numbers of the day's orders of which something was not in stock."""
        ledger = self._ledger(day + 1)
        missing = (ledger.day == day) & (ledger.wanted > 0) & (ledger.moved < ledger.wanted)
        return set(ledger.number[missing].tolist())

    def on_shelf(self, moment_ms: int) -> Numbers:
        """(products, warehouses): the stock at a moment."""
        ledger = self._ledger(moment_ms // self.pace.day_ms)
        shelves = np.arange(self.levels.size)
        current = self._period(shelves, np.full(len(shelves), moment_ms))
        counts = (ledger.period == current[ledger.shelf]) & (ledger.at_ms < moment_ms)
        gone = np.bincount(ledger.shelf[counts], ledger.moved[counts], len(shelves)).astype(np.int64)
        return (self.levels.reshape(-1) - gone).reshape(self.levels.shape)

    def events(self, day: int) -> list[Event]:
        """All movements of a market day."""
        start, end = day * self.pace.day_ms, (day + 1) * self.pace.day_ms
        ledger = self._ledger(day)
        found: list[Event] = []
        today = np.flatnonzero((ledger.at_ms >= start) & (ledger.at_ms < end) & (ledger.moved != 0))
        order_ids = {(each, order.number): order for each in (day - 1, day) for order in self.orders.day(each)}
        for i in today.tolist():
            order = order_ids[int(ledger.day[i]), int(ledger.number[i])]
            found.append(
                self.movement(
                    int(ledger.at_ms[i]),
                    int(ledger.shelf[i]),
                    "sale" if ledger.moved[i] > 0 else "return",
                    -int(ledger.moved[i]),
                    f"{order.order_id}-{int(ledger.line[i]) + 1}",
                    order_id=order.order_id,
                    label=order.label,
                )
            )
        return found + self._refills(ledger, start, end)

    def _refills(self, ledger: Moves, start: int, end: int) -> list[Event]:
        """What fills the shelves whose supply period ends in [start, end): a refill, in Lyon a transfer from Leeds."""
        group = _groups(ledger.shelf, ledger.period)
        if not len(group):
            return []
        first = np.flatnonzero(np.diff(group, prepend=-1))
        gone = np.bincount(group, ledger.moved).astype(np.int64)
        shelf, period = ledger.shelf[first], ledger.period[first]
        at = self.refill_ms(shelf, period + self._days_between[shelf // len(WAREHOUSES)])
        level = self.levels.reshape(-1)
        found: list[Event] = []
        for s, at_ms, missing in zip(*(c.tolist() for c in (shelf, at, gone))):
            if not start <= at_ms < end:
                continue
            # The move of a sale has the millisecond of its line: deliveries come between.
            random = draws("refill", self.pace.seed, s, at_ms)
            name = f"{at_ms // 1000}-{self.pace.mark}"
            if random.random() < COUNTED_SHARE:
                lost = min(int(random.random() < 0.15), int(level[s]) - missing)
                missing += lost
                found.append(self.movement(at_ms - 2, s, "count", int(level[s]) - missing, f"{name}-c"))
            if missing <= 0:
                continue
            house = s % len(WAREHOUSES)
            if house == LYON:
                leeds = s - LYON + LEEDS
                sent = at_ms - int(self.pace.day_ms * 0.02)
                found.append(self.movement(sent - 1, leeds, "refill", missing, f"{name}-f"))
                found.append(self.movement(sent, leeds, "transfer", -missing, f"{name}-o", other=LYON))
                found.append(self.movement(at_ms - 1, s, "transfer", missing, f"{name}-i", other=LEEDS))
            else:
                found.append(self.movement(at_ms - 1, s, "refill", missing, f"{name}-r"))
        return found

    def stocktaking(self, moment_ms: int) -> list[Event]:
        """A count of every shelf at a moment."""
        stock, name = self.on_shelf(moment_ms), f"{moment_ms // 1000}-{self.pace.mark}-all"
        return [
            self.movement(moment_ms, product * len(WAREHOUSES) + house, "count", int(stock[product, house]), name)
            for product in np.flatnonzero(self.shop.is_stocked).tolist()
            for house in range(len(WAREHOUSES))
        ]

    def movement(
        self,
        at_ms: int,
        shelf: int,
        movement: str,
        quantity: int,
        name: str,
        *,
        order_id: str | None = None,
        other: int | None = None,
        label: int = 0,
    ) -> Event:
        """An inventory.movements event. shelf: product * warehouses + warehouse; name: ends its event_id."""
        product, house = divmod(shelf, len(WAREHOUSES))
        code = self.shop.products[product]
        fields = {
            "warehouse_id": WAREHOUSES[house],
            "product_id": code,
            "movement_type": movement,
            "quantity": quantity,
            "order_id": order_id,
            "other_warehouse_id": WAREHOUSES[other] if other is not None else None,
        }
        event_id = f"move:{WAREHOUSES[house][0]}{shelf}-{name}"
        return Event(STOCK, at_ms, event_id, code, body(fields), label=label)


def _groups(*keys: Numbers) -> Numbers:
    """Number of the run of equal keys each row is in; rows are sorted by them."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    changes = np.zeros(len(keys[0]), bool)
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.cumsum(changes)


def _running(values: Numbers, group: Numbers) -> Numbers:
    """Sum of the values before each row in its group."""
    if not len(values):
        return values
    total = np.cumsum(values) - values
    first = np.flatnonzero(np.diff(group, prepend=-1))
    before: Numbers = total - total[first][group]
    return before
