"""The accounts and the catalogue of the history, as the change events that must have been: one stream of each."""

from __future__ import annotations

import numpy as np

from local.simulator import catalog, customers
from local.simulator.accounts import GONE_AFTER_MS, Accounts
from local.simulator.events import Event, draws
from local.simulator.shop import HOUR_MS, SALE, Shop
from local.simulator.stock import Stock


def products(shop: Shop, stock: Stock, shift_ms: int) -> list[Event]:
    """Every product: created some time before its first order, renamed when its name changed, a few deleted."""
    b = shop.baskets
    order_ms = np.repeat(b.order_ms, np.diff(b.first))
    _, first = np.unique(b.line_product, return_index=True)
    earlier = draws("created").integers(1, 30 * 24, len(first)) * HOUR_MS
    found = []
    for product, created in enumerate((order_ms[first] - earlier).tolist()):
        code, price = shop.products[product], int(shop.prices_mills[product])
        names = shop.renames.get(product) or [(created, shop.names[product])]
        reorder = stock.reorder_point(product)
        steps = [(created, names[0][1], "created")]
        steps += [(at, name, "changed") for at, name in names[1:]]
        if product in shop.discontinued:
            steps.append((shop.discontinued[product], names[-1][1], "deleted"))
        found += [
            catalog.change(code, name, price, reorder, change, at + shift_ms, f"product:{code}:{number}")
            for number, (at, name, change) in enumerate(steps, 1)
        ]
    return found


def accounts(shop: Shop, known: Accounts, shift_ms: int) -> list[Event]:
    """Every customer: created before the first order, changed with a move or a step in loyalty, a few deleted."""
    b = shop.baskets
    orders: list[list[int]] = [[] for _ in shop.customers]
    for order in np.flatnonzero(b.customer >= 0).tolist():
        orders[b.customer[order]].append(order)
    earlier = draws("opened").integers(1, 20 * 24, len(orders)) * HOUR_MS
    found = []
    for customer, placed in enumerate(orders):
        customer_id = shop.customers[customer]
        country, tier, bought, moves = int(b.country[placed[0]]), "none", 0, 0
        steps = [(int(b.order_ms[placed[0]] - earlier[customer]), country, tier, "created", 0)]
        for order in placed:
            bought += int(b.order_type[order] == SALE)
            now = (int(b.country[order]), customers.tier(bought))
            if now != (country, tier):
                moves += now[0] != country
                country, tier = now
                steps.append((int(b.order_ms[order]), country, tier, "changed", moves))
        if customer_id in known.deleted:
            steps.append((int(b.order_ms[placed[-1]]) + GONE_AFTER_MS, country, tier, "deleted", moves))
        found += [
            customers.change(
                customer_id,
                shop.countries[land],
                standing,
                change,
                at + shift_ms,
                f"customer:{customer_id}:{number}",
                moves=moved,
            )
            for number, (at, land, standing, change, moved) in enumerate(steps, 1)
        ]
    return found
