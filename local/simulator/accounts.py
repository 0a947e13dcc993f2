"""Accounts: those that new customers open as the market goes on, and changes of the known ones."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from local.simulator import customers
from local.simulator.events import Event, draws
from local.simulator.pace import Pace
from local.simulator.shop import DAY_MS, Shop

NEW_A_DAY, CHANGES_A_DAY = 14.0, 6.0  # at the history's pace
BRIEF_SHARE = 0.12  # of new accounts
DELETED_SHARE = 0.01  # of the history's customers: their accounts are gone before the market goes on
GONE_AFTER_MS = 200 * DAY_MS


@dataclass(frozen=True, slots=True)
class Account:
    """A new customer. opened_ms: POSIX milliseconds; is_brief: who has it deleted the next day, and never buys."""

    customer_id: str
    country: str
    opened_ms: int
    is_brief: bool


class Accounts:
    """The source of crm.customers events."""

    def __init__(self, shop: Shop, pace: Pace) -> None:
        self.shop, self.pace = shop, pace
        self.opened = lru_cache(maxsize=16)(self._opened)
        self._buyers = lru_cache(maxsize=4)(self._buyers_of_two_days)

    @cached_property
    def deleted(self) -> frozenset[str]:
        """Customers of the history who have not ordered for long and have had their accounts deleted."""
        b = self.shop.baskets
        last = np.zeros(len(self.shop.customers), np.int64)
        known = b.customer >= 0
        np.maximum.at(last, b.customer[known], b.order_ms[known])
        quiet = np.flatnonzero(last < b.order_ms[-1] - GONE_AFTER_MS)
        chosen = draws("deleted").choice(quiet, int(len(self.shop.customers) * DELETED_SHARE), replace=False)
        return frozenset(self.shop.customers[i] for i in chosen.tolist())

    def _opened(self, day: int) -> list[Account]:
        """The accounts that are opened on a market day, by time."""
        pace, shop = self.pace, self.shop
        random = draws("accounts", pace.seed, pace.trade * 1000, day)
        start, end = day * pace.day_ms, (day + 1) * pace.day_ms
        expected = shop.expected_orders(start, end) * pace.trade * NEW_A_DAY / 110
        count = int(random.poisson(expected))
        times = np.sort(random.integers(start, end, count)).tolist()
        countries = shop.baskets.country[random.integers(0, len(shop.baskets.country), count)].tolist()
        brief = (random.random(count) < BRIEF_SHARE).tolist()
        return [
            Account(f"N{opened // 1000}{pace.mark}{number}", shop.countries[country], opened, is_brief)
            for number, (opened, country, is_brief) in enumerate(zip(times, countries, brief))
        ]

    def _buyers_of_two_days(self, day: int) -> tuple[list[Account], list[int]]:
        """The accounts of yesterday and today that buy, and when they were opened."""
        known = [account for account in self.opened(day - 1) + self.opened(day) if not account.is_brief]
        return known, [account.opened_ms for account in known]

    def before(self, moment_ms: int, random: np.random.Generator) -> Account | None:
        """An account that was opened before this moment, today or yesterday."""
        known, opened_ms = self._buyers(moment_ms // self.pace.day_ms)
        count = bisect_left(opened_ms, moment_ms)
        return known[count - 1 - min(int(random.exponential(4)), count - 1)] if count else None

    def openings(self, day: int) -> list[Event]:
        """The accounts that are opened on a market day, as events."""
        return [
            customers.change(
                account.customer_id,
                account.country,
                "none",
                "created",
                account.opened_ms,
                f"customer:{account.customer_id}:1",
            )
            for account in self.opened(day)
        ]

    def events(self, day: int) -> list[Event]:
        """What happens to accounts on a market day."""
        pace, shop = self.pace, self.shop
        found = self.openings(day)
        for account in self.opened(day - 1):
            if account.is_brief:
                found.append(
                    customers.change(
                        account.customer_id,
                        account.country,
                        "none",
                        "deleted",
                        day * pace.day_ms + account.opened_ms % pace.day_ms // 2,
                        f"customer:{account.customer_id}:2",
                    )
                )
        random = draws("changes", pace.seed, pace.trade * 1000, day)
        start, end = day * pace.day_ms, (day + 1) * pace.day_ms
        expected = shop.expected_orders(start, end) * pace.trade * CHANGES_A_DAY / 110
        for number in range(int(random.poisson(expected))):
            customer = int(random.integers(0, len(shop.customers)))
            customer_id, at = shop.customers[customer], int(random.integers(start, end))
            if customer_id in self.deleted:
                continue
            found.append(
                customers.change(
                    customer_id,
                    shop.countries[int(shop.customer_country[customer])],
                    customers.tier(int(shop.customer_orders[customer]) + int(random.integers(0, 3))),
                    "changed",
                    at,
                    f"customer:{customer_id}:{at // 1000}-{pace.mark}{number}",
                    moves=at // (30 * DAY_MS),
                )
            )
        return found
