"""What visitors do and look at: acts that follow one another, products by popularity and taste. Vectorised."""

from __future__ import annotations

import numpy as np

from local.simulator.events import Numbers, mix
from local.simulator.interactions import ADD, CHECKOUT, ERROR, PRODUCT, REMOVE, SEARCH, VIEWS
from local.simulator.shop import Shop

_ACTS = (PRODUCT, *VIEWS, SEARCH, ADD, REMOVE, CHECKOUT, ERROR)
_ACTS_RUNNING = np.cumsum([0.50, 0.05, 0.13, 0.02, 0.03, 0.11, 0.11, 0.012, 0.022, 0.016])


class Taste:
    """Draws acts and products for many events at once."""

    def __init__(self, shop: Shop) -> None:
        # Products by category, popular first, with running weights: a draw within a category is one binary search.
        offered = shop.weights.copy()
        offered[list(shop.discontinued)] = 0
        self._order = np.lexsort((-offered, shop.categories))
        self._order = self._order[offered[self._order] > 0]
        self._running = np.concatenate([[0.0], np.cumsum(offered[self._order])])
        bounds = np.searchsorted(shop.categories[self._order], np.arange(shop.categories.max() + 2))
        self._low, self._high = self._running[bounds[:-1]], self._running[bounds[1:]]

    def acts(
        self,
        random: np.random.Generator,
        session: Numbers,
        at: Numbers,
        bot: Numbers,
        visitor: Numbers,
        offered: Numbers,
    ) -> tuple[Numbers, Numbers]:
        """(act, product or -1) of each event. A cart is filled from a product's page, and checked out when filled."""
        total = len(session)
        act = np.array(_ACTS, np.int64)[np.searchsorted(_ACTS_RUNNING, random.random(total)).clip(0, len(_ACTS) - 1)]
        act[bot] = PRODUCT
        previous = np.concatenate([[0], act[:-1]])
        act[(act == ADD) & ((previous != PRODUCT) | (at == 0))] = PRODUCT
        previous = np.concatenate([[0], act[:-1]])
        act[((act == REMOVE) | (act == CHECKOUT)) & ((previous != ADD) | (at == 0))] = VIEWS[1]
        # Two in three looks are at one of the visitor's two favourite categories, or at the campaign's.
        taste = mix(visitor.astype(np.uint64), 11)
        categories = len(self._low)
        favourite = np.where(offered >= 0, offered, (taste % np.uint64(categories)).astype(np.int64))
        second = ((taste >> np.uint64(20)) % np.uint64(categories)).astype(np.int64)
        u, v = random.random(total), random.random(total)
        liked = np.where(u < 0.4, favourite[session], second[session])
        low = np.where((u < 0.65) & ~bot, self._low[liked], 0.0)
        high = np.where((u < 0.65) & ~bot, self._high[liked], self._running[-1])
        drawn = self._order[
            (np.searchsorted(self._running, low + v * (high - low), side="right") - 1).clip(0, len(self._order) - 1)
        ]
        crawled = (v * len(self._order)).astype(np.int64)  # bots do not know what is popular
        product = np.where(bot, crawled, drawn)
        product[act == ADD] = product[np.flatnonzero(act == ADD) - 1]
        product[act == REMOVE] = product[np.flatnonzero(act == REMOVE) - 1]
        return act, np.where(np.isin(act, (PRODUCT, ADD, REMOVE)), product, -1)
