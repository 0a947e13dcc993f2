"""When people are about: by the hour of their country and the day of the week."""

from __future__ import annotations

import numpy as np

from local.simulator.events import Numbers
from local.simulator.shop import HOUR_MS, Shop

# Visits of an hour of the day, local time: a peak at lunch and a higher one in the evening.
_HOURS = np.array([3, 2, 1, 1, 1, 2, 4, 6, 8, 10, 11, 12, 13, 12, 11, 11, 11, 12, 13, 15, 16, 14, 10, 6], float)
HOURS = _HOURS / _HOURS.mean()
DAYS = np.array([1.02, 1.03, 1.02, 1.05, 0.95, 0.83, 1.10])
_OFFSETS_H = {
    "United Kingdom": 0, "EIRE": 0, "Portugal": 0, "Iceland": 0, "Channel Islands": 0, "Australia": 10, "Japan": 9,
    "USA": -6, "Canada": -5, "Brazil": -3, "Singapore": 8, "Hong Kong": 8, "Finland": 2, "Greece": 2, "Cyprus": 2,
    "Lithuania": 2, "Israel": 2, "Lebanon": 2, "Bahrain": 3, "Saudi Arabia": 3, "United Arab Emirates": 4, "RSA": 2,
}  # fmt: skip


def level(moment_ms: int) -> float:
    """Visits at this time relative to their average, for the shop as a whole."""
    hour = moment_ms // HOUR_MS
    now, later = HOURS[hour % 24], HOURS[(hour + 1) % 24]
    share = moment_ms % HOUR_MS / HOUR_MS
    return float((now + (later - now) * share) * DAYS[(hour // 24 + 3) % 7])


def country_shares(shop: Shop, moment_ms: int) -> Numbers:
    """Relative number of visits from each country at this time."""
    base = np.bincount(shop.baskets.country, minlength=len(shop.countries)).astype(float)
    local = np.array([(moment_ms // HOUR_MS + _OFFSETS_H.get(name, 1)) % 24 for name in shop.countries])
    # The history ships nine orders in ten at home; more people than that look from abroad.
    weights = base**0.8 * HOURS[local]
    shares: Numbers = weights / weights.sum()
    return shares
