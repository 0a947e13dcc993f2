"""One small Airflow for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.pubsub.topology import read
from tests.airflow.small import SmallAirflow
from tests.functions.running import Live
from tests.stand_ins import PubSub, Snowflake


@pytest.fixture(scope="package")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallAirflow]:
    """Running, with a warehouse, Dataflow, Pub/Sub and alert_book."""
    folder = tmp_path_factory.mktemp("airflow")
    for name in ("snowflake", "pubsub"):
        (folder / name).mkdir()
    snowflake, pubsub = Snowflake(folder / "snowflake"), PubSub(folder / "pubsub")
    with pytest.MonkeyPatch.context() as patch:
        snowflake.start()
        pubsub.start()
        patch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
        live = Live(folder, pubsub, read().functions)
        own = SmallAirflow(folder, snowflake, live)
        try:
            live.apply()
            book = live.functions["alert_book"]
            book.env = {**book.env, "MADHATTER_WAREHOUSE": own.instance.settings["MADHATTER_WAREHOUSE"]}
            book.start()
            own.start()
            yield own
        finally:
            own.end()
            live.end()
            pubsub.end()
            snowflake.end()
