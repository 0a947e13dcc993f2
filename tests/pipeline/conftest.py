"""One migrated warehouse for all tests of this folder; each test has topics or rows of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.chain import Chain, empty_chain
from tests.stand_ins import Snowflake


@pytest.fixture(scope="package")
def snowflake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    """A running, migrated warehouse."""
    own = Snowflake(tmp_path_factory.mktemp("snowflake"))
    own.start()
    yield own
    own.end()


@pytest.fixture
def chain(snowflake: Snowflake, tmp_path: Path) -> Iterator[Chain]:
    """A chain over an empty log and empty tables."""
    own = empty_chain(snowflake.open(), tmp_path)
    yield own
    own.warehouse.close()
