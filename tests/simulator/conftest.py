"""The shop, read once; a market at the default rate; a broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.simulator import shop
from local.simulator.market import Market
from local.simulator.pace import DEFAULT_RATE, Pace
from tests.stand_ins import Broker

SEED = 42
MONDAY_MS = 1_795_392_000_000  # 2026-11-23T00:00Z


@pytest.fixture(scope="session")
def known() -> shop.Shop:
    return shop.load()


@pytest.fixture(scope="session")
def market(known: shop.Shop) -> Market:
    return Market(known, Pace.of(SEED, DEFAULT_RATE))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    own = Broker(tmp_path_factory.mktemp("kafka"))
    own.start()
    yield own
    own.end()
