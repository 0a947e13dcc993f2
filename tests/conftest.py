"""One broker for all tests of a worker, and who runs what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.stand_ins import Broker

# How long an example may take is a question of the machine's load, not of behaviour.
settings.register_profile("madhatter", deadline=None)
settings.load_profile("madhatter")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running broker for tests that do not stop it; each has topics of its own."""
    own = Broker(tmp_path_factory.mktemp("broker"))
    own.start()
    yield own
    own.end()


WHOLE_PLATFORMS = (
    "tests/airflow/",
    "tests/chaos/",
    "tests/e2e/",
    "tests/stack/test_brokers.py",
    "tests/stack/test_live_half.py",
    "tests/stack/test_outages.py",
)


class ByWhatTheyStart(LoadScopeScheduling):  # type: ignore[misc]
    """With several workers, one has all tests that start a whole platform, so that there is one at a time. The others
    have a file at a time, so that what its tests share is started once. (pytest-xdist's own groups have no effect with
    pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "platform" if file.startswith(WHOLE_PLATFORMS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByWhatTheyStart:
    """Called by pytest-xdist."""
    return ByWhatTheyStart(config, log)
