"""Campaigns: each week one, in December and before the same one for weeks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from local.simulator import catalog
from local.simulator.shop import DAY_MS


@dataclass(frozen=True)
class Campaign:
    """name: as in the links; category: index into catalog.NAMES of what it is for."""

    name: str
    category: int


_BY_WEEK = (
    ("spring-garden", "Garden"), ("tea-time", "Tea and tableware"), ("party-season", "Party"),
    ("back-to-school", "Children and toys"),
    ("kitchen-days", "Kitchen and baking"), ("light-up", "Candles and lights"), ("wrap-it", "Stationery and wrap"),
)  # fmt: skip


def campaign(moment_ms: int) -> Campaign:
    """What the shop advertises at this time."""
    if datetime.fromtimestamp(moment_ms / 1000, UTC).month >= 11:
        return Campaign("christmas", catalog.NAMES.index("Christmas"))
    name, category = _BY_WEEK[moment_ms // (7 * DAY_MS) % len(_BY_WEEK)]
    return Campaign(name, catalog.NAMES.index(category))
