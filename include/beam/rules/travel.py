"""One card that shops for two countries sooner than anybody travels from one to the other."""

from __future__ import annotations

from collections.abc import Iterable

from include.beam.rules import facts, thresholds
from include.beam.rules.rows import OrderRow
from include.beam.rules.rule import Found
from include.beam.rules.windows import WindowRule, horizon_s

LIMITS = thresholds.read().impossible_travel
_LONGEST_S = 60 * max(LIMITS.within_region_min, LIMITS.between_regions_min)


class ImpossibleTravel(WindowRule):
    """Finds each order that is shipped to another country than one with the same card was, less than the minutes before
    that the way takes at least. Where the card is registered is a feature: many ship presents abroad."""

    NAME = "impossible_travel"
    KINDS = ("impossible_travel",)
    WINDOW_S = _LONGEST_S
    HORIZON_S = horizon_s(_LONGEST_S)

    def keys(self, row: OrderRow) -> Iterable[str]:
        return [f"card:{card}" for card in facts.cards(row)] if row.order_type in facts.BUYING else ()

    def observe(self, key: str, row: OrderRow) -> list[Found]:
        found = []
        for order, window in self.windows.add(key, row, _is_too_fast):
            other = next(each for each in reversed(window) if _is_beyond(order, each))
            found.append(
                facts.found(
                    "impossible_travel",
                    key,
                    order,
                    row,
                    self.snapshot,
                    window,
                    other_order_id=other.order_id,
                    other_country=other.country,
                    other_region=other.region,
                    minutes=round((order.event_ms - other.event_ms) / 60_000, 1),
                    least_minutes=_least_minutes(order, other),
                )
            )
        return found


def _is_too_fast(order: OrderRow, window: list[OrderRow]) -> bool:
    return any(_is_beyond(order, other) for other in window)


def _is_beyond(order: OrderRow, other: OrderRow) -> bool:
    apart_ms = order.event_ms - other.event_ms
    return order.country != other.country and apart_ms < 60_000 * _least_minutes(order, other)


def _least_minutes(order: OrderRow, other: OrderRow) -> int:
    """What is not known to be in one region is not taken to be in two."""
    is_far = order.region and other.region and order.region != other.region
    return LIMITS.between_regions_min if is_far else LIMITS.within_region_min
