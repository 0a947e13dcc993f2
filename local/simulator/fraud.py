"""Fraud, labelled in the account only: stolen cards and refund abuse. Crawling bots are in sessions.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from local.simulator.events import REFUND_ABUSE, STOLEN_CARD, draws
from local.simulator.order import Order, card, session
from local.simulator.shop import DECLINED, RETURN, SALE

if TYPE_CHECKING:
    from local.simulator.orders import Orders

# At the history's pace: a stolen card every second market day, an abuser of refunds as often.
STOLEN_A_DAY, ABUSE_A_DAY = 0.5, 0.5
_COUNTRIES = ("United Kingdom", "Germany", "France", "EIRE", "Spain", "Netherlands")


def orders(source: Orders, day: int, first_number: int) -> list[Order]:
    """The fraudulent orders of a market day, numbered from first_number."""
    pace = source.pace
    random = draws("fraud", pace.seed, pace.trade * 1000, day)
    start, end = day * pace.day_ms, (day + 1) * pace.day_ms
    usual = source.shop.expected_orders(start, end) * pace.trade / 110
    found: list[Order] = []
    for _ in range(int(random.poisson(usual * STOLEN_A_DAY))):
        found += _stolen_card(source, random, start, end, first_number + len(found))
    for _ in range(int(random.poisson(usual * ABUSE_A_DAY))):
        found += _refund_abuse(source, random, start, end, first_number + len(found))
    return found


def _dear(source: Orders, random: np.random.Generator, share: float) -> int:
    """A sale among the dearest share of the recent ones."""
    recent = source.shop.recent
    sales = recent[source.shop.baskets.order_type[recent] == SALE]
    by_amount = sales[np.argsort(source.shop.baskets.amount_mills[sales], kind="stable")]
    return int(by_amount[-1 - random.integers(0, int(len(by_amount) * share))])


def _stolen_card(source: Orders, random: np.random.Generator, start: int, end: int, number: int) -> list[Order]:
    """Three to seven dear orders within minutes, on one card, shipped to two countries that are not the card's."""
    home, *abroad = random.permutation(len(_COUNTRIES))[:3].tolist()
    at = int(random.integers(start, end))
    span = (end - start) / 86_400_000
    account = source.accounts.before(at, random)
    stolen = card(f"stolen {start} {number}")
    found = []
    for i in range(int(random.integers(3, 8))):
        at += int(5_000 + random.exponential(100_000) * max(span, 0.02))
        if at >= end:
            break
        made = source.draw(random, number + i, at, _dear(source, random, 0.1), SALE)
        outcome = DECLINED if random.random() < 0.3 else SALE
        found.append(
            replace(
                made,
                order_type=outcome,
                customer_id=account.customer_id if account else None,
                country=_COUNTRIES[abroad[i % 2]],
                channel="web",
                session=made.session or session(made.order_id),
                method="card",
                card=stolen,
                billing_country=_COUNTRIES[home],
                attempts=1 + int(random.integers(0, 3)),
                label=STOLEN_CARD,
            )
        )
    return found


def _refund_abuse(source: Orders, random: np.random.Generator, start: int, end: int, number: int) -> list[Order]:
    """A new account that orders several times and wants its money back within hours, for the whole basket."""
    at = int(random.integers(start, start + (end - start) // 2))
    account = source.accounts.before(at, random)
    if account is None:
        return []
    found: list[Order] = []
    for _ in range(int(random.integers(2, 5))):
        basket = _dear(source, random, 0.4)
        for order_type in (SALE, RETURN):
            at += int((end - start) * (0.01 + random.random() * 0.04))
            if at >= end:
                return found
            made = source.draw(random, number + len(found), at, basket, order_type)
            if order_type == SALE and not made.session:
                made = replace(made, channel="web", session=session(made.order_id))
            found.append(
                replace(
                    made,
                    customer_id=account.customer_id,
                    country=account.country,
                    billing_country=account.country,
                    method="card",
                    card=card(account.customer_id),
                    sign=-1 if order_type == RETURN else 1,
                    label=REFUND_ABUSE,
                )
            )
    return found
