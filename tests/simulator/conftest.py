"""The shop, read once; a market at the default rate."""

from __future__ import annotations

import pytest

from local.simulator import shop
from local.simulator.market import Market
from local.simulator.pace import DEFAULT_RATE, Pace

SEED = 42
MONDAY_MS = 1_795_392_000_000  # 2026-11-23T00:00Z


@pytest.fixture(scope="package")
def known() -> shop.Shop:
    return shop.load()


@pytest.fixture(scope="package")
def market(known: shop.Shop) -> Market:
    return Market(known, Pace.of(SEED, DEFAULT_RATE))
