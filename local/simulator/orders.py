"""Orders: real baskets, drawn at the history's pace, under new numbers. Few enough to be made one by one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from local.simulator import fraud
from local.simulator.accounts import Accounts
from local.simulator.events import ORDERS, Event, body, draws
from local.simulator.order import Order, card, payments, session
from local.simulator.pace import Pace
from local.simulator.shop import ADJUSTMENT, DECLINED, GIFT, HOUR_MS, ORDER_TYPES, RETURN, SALE, Shop, line_json

DECLINED_SHARE = 0.015  # of sales: orders that no payment was accepted for, on top of the history's
NEW_ACCOUNTS, STORE, MOBILE_SHARE = 0.08, 0.06, 0.33


class Orders:
    """The orders of each market day, a function of (seed, trade, day)."""

    def __init__(self, shop: Shop, pace: Pace, accounts: Accounts) -> None:
        self.shop, self.pace, self.accounts = shop, pace, accounts
        self.day = lru_cache(maxsize=16)(self._day)

    def _day(self, day: int) -> list[Order]:
        pace, shop = self.pace, self.shop
        random = draws("orders", pace.seed, pace.trade * 1000, day)
        times = self._times(random, day)
        recent = shop.recent
        found: list[Order] = []
        for number, order_ms in enumerate(times):
            basket = int(recent[random.integers(0, len(recent))])
            order_type = int(shop.baskets.order_type[basket])
            found.append(self.draw(random, number, order_ms, basket, order_type))
            if order_type == SALE and random.random() < DECLINED_SHARE:
                again = self.draw(random, len(times) + number, order_ms + 1_000, basket, DECLINED)
                found.append(again)
        first_number = 2 * len(times)
        found += fraud.orders(self, day, first_number)
        return sorted(found, key=lambda order: (order.order_ms, order.number))

    def _times(self, random: np.random.Generator, day: int) -> list[int]:
        """When orders come in: a Poisson process at the history's pace, in milliseconds."""
        start, end = day * self.pace.day_ms, (day + 1) * self.pace.day_ms
        times: list[int] = []
        for hour in range(start // HOUR_MS, -(-end // HOUR_MS)):
            low, high = max(start, hour * HOUR_MS), min(end, (hour + 1) * HOUR_MS)
            count = random.poisson(self.shop.expected_orders(low, high) * self.pace.trade)
            times += np.sort(random.integers(low, high, count)).tolist()
        return times

    def order_id(self, order_ms: int, number: int) -> str:
        """The number of an order: its second, and what keeps those of one second apart."""
        return f"S{order_ms // 1000}-{self.pace.mark}{number}"

    def draw(self, random: np.random.Generator, number: int, order_ms: int, basket: int, order_type: int) -> Order:
        """An order of this basket: who places it, where, and how it is paid."""
        b, shop = self.shop.baskets, self.shop
        customer, country = int(b.customer[basket]), shop.countries[int(b.country[basket])]
        customer_id = shop.customers[customer] if customer >= 0 else None
        if customer_id in self.accounts.deleted:
            customer_id = None
        is_trade = order_type in (SALE, DECLINED)
        if is_trade and random.random() < NEW_ACCOUNTS:
            account = self.accounts.before(order_ms, random)
            customer_id, country = (account.customer_id, account.country) if account else (customer_id, country)
        u, v, w = random.random(3).tolist()
        channel = "web"
        if order_type in (SALE, RETURN, DECLINED):
            channel = "mobile" if u < MOBILE_SHARE else "store" if u > 1 - STORE and order_type != DECLINED else "web"
        method = "card" if v < 0.62 else "paypal" if v < 0.87 else "invoice"
        if order_type in (GIFT, ADJUSTMENT):
            method = ""
        if order_type == DECLINED:
            method = "card"
        attempts = 2 if is_trade and method == "card" and w < 0.05 else 1
        order_id = self.order_id(order_ms, number)
        has_session = is_trade and channel != "store"
        return Order(
            number,
            order_id,
            order_ms,
            order_type,
            basket,
            customer_id,
            country,
            channel,
            session(order_id) if has_session else "",
            method,
            card=card(customer_id or order_id) if method == "card" else "",
            billing_country=country,
            attempts=attempts,
        )

    def event(self, order: Order) -> Event:
        """The `sales.orders` event of an order."""
        product, name, quantity, price = self.shop.lines(order.basket)
        if order.sign < 0:
            quantity = -abs(quantity)
        amount = int((quantity * price).sum())
        head = {
            "order_id": order.order_id,
            "order_type": ORDER_TYPES[order.order_type],
            "customer_id": order.customer_id,
            "country": order.country,
            "channel": order.channel,
            "session_id": f"s-{order.session}" if order.session else None,
            "currency": "GBP",
        }
        products, texts = self.shop.products, self.shop.texts
        lines = ",".join(
            line_json(at, products[p], texts[n], q, m)
            for at, (p, n, q, m) in enumerate(
                zip(product.tolist(), name.tolist(), quantity.tolist(), price.tolist()), 1
            )
        )
        text = f'{body(head)},"lines":[{lines}]'
        if order.method:
            text += f',"payments":[{",".join(payments(order, amount))}]'
        key = order.customer_id or order.order_id
        return Event(ORDERS, order.order_ms, f"order:{order.order_id}", key, text, label=order.label)
