"""How likely a count is by chance, and minutes by name."""

from __future__ import annotations

import math
from datetime import UTC, datetime

MINUTE_MS = 60_000


def poisson_bound(count: int, expected: float) -> float:
    """An upper bound of the probability that a Poisson count is as far from what is expected, on its side, or farther:
    exp(count - expected - count * ln(count / expected)) (Chernoff). 1 where it is what is expected."""
    if count == 0 or expected <= 0:
        return math.exp(-expected) if count == 0 else 0.0
    return math.exp(min(0.0, count - expected - count * math.log(count / expected)))


def minute_name(minute: int) -> str:
    """What stands for a minute as event: minutes since 1970 -> `minute:2026-11-23T10:05Z`."""
    return f"minute:{datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%dT%H:%MZ}"
