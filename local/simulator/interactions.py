"""The words of an interaction: what visitors do, on which page, how long it takes to load. As JSON fragments."""

from __future__ import annotations

import json
import zlib

import numpy as np

from local.simulator.events import MOBILE, WEB, Numbers, draws, mix
from local.simulator.shop import DAY_MS, HOUR_MS, Shop

REFERRERS = ("direct", "search", "email", "social", "affiliate", "ad")
DEVICES = ("desktop", "tablet", "phone")
ERRORS = ("http_503", "http_500", "timeout", "script", "image_missing")

# (interaction_type, page, whether it loads one)
ACTS = (
    ("product_view", "product", True),
    ("view", "home", True),
    ("view", "category", True),
    ("view", "delivery", True),
    ("view", "account", True),
    ("search", "search", True),
    ("add_to_cart", "product", False),
    ("remove_from_cart", "cart", False),
    ("checkout", "checkout", True),
    ("error", "product", False),
    ("purchase", "confirmation", True),
)
PRODUCT, SEARCH, ADD, REMOVE, CHECKOUT, ERROR, PURCHASE = 0, 5, 6, 7, 8, 9, 10
VIEWS = (1, 2, 3, 4)
_IS_LOADING = np.array([loads for _, _, loads in ACTS])

STEP_MS, MOST_STEPS = 10, 3_000
# Load times are written in steps of 10 ms, so that their texts are made once.
LOADS = ["", *(f',"page_load_ms":{step * STEP_MS}' for step in range(1, MOST_STEPS + 1))]


class Fragments:
    """JSON members by index. acts: first those of the web, from `mobile` on those of the app; products: 0 is none;
    extras: 0 is none, then searches, errors from first_error and referrers from first_referrer."""

    def __init__(self, shop: Shop) -> None:
        self.mobile = len(ACTS)
        self.acts = [
            f'"interaction_type":"{act}","{place}":"{page}"' for place in ("page", "screen") for act, page, _ in ACTS
        ]
        self.products = ["", *(f',"product_id":{json.dumps(code, ensure_ascii=False)}' for code in shop.products)]
        random = draws("searches")
        likely = shop.weights / shop.weights.sum()
        searches = []
        for product in random.choice(len(shop.names), 500, p=likely).tolist():
            words = [word for word in shop.names[product].lower().split() if word.isalpha() and len(word) > 2]
            if words:
                first = int(random.integers(0, len(words)))
                searches.append(" ".join(words[first : first + 2]))
        self.search_count = len(searches)
        self.first_error = 1 + len(searches)
        self.first_referrer = self.first_error + len(ERRORS)
        self.extras = [
            "",
            *(f',"search_text":{json.dumps(text)}' for text in searches),
            *(f',"error":"{code}"' for code in ERRORS),
            *(f',"referrer":"{name}"' for name in REFERRERS),
        ]

    def releases(self, moment_ms: int) -> dict[int, tuple[str, ...]]:
        """By topic the versions in use, for four groups of visitors. The site is released each week, the app each
        second week, and not everyone has the new one."""
        week = moment_ms // (7 * DAY_MS)
        site, app = f"4.{week % 100}.0", week // 2 % 100
        return {WEB: (site,) * 4, MOBILE: (f"7.{app}.0", f"7.{app}.0", f"7.{app}.0", f"7.{max(app - 1, 0)}.2")}


def visitor_of(owner: str) -> int:
    """The browser of a customer, or of who placed an order as a guest: 32 bits that say nothing about them."""
    return int(mix(np.array([zlib.crc32(owner.encode())]), 17)[0]) & 0xFFFFFFFF


def load_times(random: np.random.Generator, act: Numbers, device: Numbers, moment_ms: int) -> Numbers:
    """Index into LOADS of each event: log-normal, slower on phones, slow for all in one hour of 60."""
    median = np.array([520.0, 700.0, 900.0])[device]
    is_slow = int(mix(np.array([moment_ms // HOUR_MS]), 13)[0]) % 60 == 0
    ms = median * (3.5 if is_slow else 1.0) * np.exp(random.standard_normal(len(act)) * 0.55)
    return np.where(_IS_LOADING[act], np.clip(ms / STEP_MS, 1, MOST_STEPS), 0).astype(np.int64)
