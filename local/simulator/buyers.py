"""The sessions in which orders are placed: every line was looked at and put into the cart before."""

from __future__ import annotations

import numpy as np

from local.simulator.events import MOBILE, WEB, Event, draws
from local.simulator.interactions import (
    ADD,
    CHECKOUT,
    DEVICES,
    ERROR,
    LOADS,
    PRODUCT,
    PURCHASE,
    REFERRERS,
    VIEWS,
    Fragments,
    load_times,
    visitor_of,
)
from local.simulator.order import Order
from local.simulator.shop import DECLINED, Shop

MAX_PRODUCTS = 80  # of larger orders the rest comes by order form
LONGEST_MS = 1_500_000


def interactions(shop: Shop, fragments: Fragments, order: Order, day_ms: int, most: int = MAX_PRODUCTS) -> list[Event]:
    """What the buyer did, up to the purchase or the refused payment, in order of time. most: products looked at."""
    random = draws("buyer", order.order_id)
    products = list(dict.fromkeys(shop.lines(order.basket)[0].tolist()))[:most]
    acts = [VIEWS[0]]
    about = [-1]
    for product in products:
        acts += [PRODUCT, ADD]
        about += [product, product]
    acts += [CHECKOUT, ERROR if order.order_type == DECLINED else PURCHASE]
    about += [-1, -1]
    gaps = 3_000 + random.exponential(9_000, len(acts) - 1)
    longest = min(LONGEST_MS, day_ms // 3)
    gaps *= min(1.0, longest / gaps.sum())
    offsets = np.concatenate([[0.0], np.cumsum(gaps)])
    times = order.order_ms + 200 + (offsets - offsets[-1]).astype(np.int64)
    is_mobile = order.channel == "mobile"
    device = (2 if random.random() < 0.85 else 1) if is_mobile else int(random.integers(0, 3))
    loads = load_times(random, np.array(acts), np.full(len(acts), device), order.order_ms)
    topic, channel = (MOBILE, "mobile") if is_mobile else (WEB, "web")
    by = f"v-{visitor_of(order.customer_id or order.order_id):08x}"
    version = fragments.releases(order.order_ms)[topic][0]
    who = f'"customer_id":"{order.customer_id}",' if order.customer_id else ""
    fields = (
        f'"visitor_id":"{by}","session_id":"s-{order.session}",{who}"channel":"{channel}",'
        f'"device":"{DEVICES[device]}","country":"{order.country}","app_version":"{version}",'
    )
    referrer = REFERRERS[int(random.integers(0, len(REFERRERS)))]
    found = []
    for number, (act, product, at, load) in enumerate(zip(acts, about, times.tolist(), loads.tolist()), 1):
        extra = f',"referrer":"{referrer}"' if number == 1 else ""
        if act == PURCHASE:
            extra = f',"order_id":"{order.order_id}"'
        elif act == ERROR:
            extra = ',"error":"payment_declined"'
        text = (
            f"{fields}{fragments.acts[act + fragments.mobile * is_mobile]}{fragments.products[product + 1]}"
            f"{LOADS[load]}{extra}"
        )
        found.append(Event(topic, at, f"{channel}:{order.session}-{number}", by, text, label=order.label))
    return found
