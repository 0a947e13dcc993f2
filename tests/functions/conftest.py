"""One Pub/Sub and one warehouse for all tests of functions; each has processes of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.pubsub.topology import read
from tests.functions.running import Function, Live
from tests.stand_ins import PubSub, Snowflake


@pytest.fixture(scope="package")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    own = Snowflake(tmp_path_factory.mktemp("warehouse"))
    own.start()
    yield own
    own.end()


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A Pub/Sub of the test's own, with topics and subscriptions, and addresses of functions that do not run yet."""
    pubsub = PubSub(tmp_path)
    pubsub.start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    own = Live(tmp_path, pubsub, read().functions)
    own.apply()
    yield own
    own.end()
    pubsub.end()


@pytest.fixture
def start(live: Live) -> Callable[..., Function]:
    """Starts a function; settings are environment variables."""

    def run(name: str, **settings: str) -> Function:
        one = live.functions[name]
        one.env = {**one.env, **settings}
        one.start()
        return one

    return run


@pytest.fixture
def settings(warehouse: Snowflake, tmp_path: Path) -> dict[str, str]:
    """Of functions that use the warehouse, or tell people."""
    connection = {"account": "local", "user": "local", "password": "local", "host": "127.0.0.1", "protocol": "http"}
    return {
        "MADHATTER_WAREHOUSE": json.dumps(connection | {"port": warehouse.port, "database": "MADHATTER"}),
        "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
        "MADHATTER_ALERT_FILE": str(tmp_path / "alerts.jsonl"),
    }
