"""One platform for all tests that need a whole one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import platform as platforms


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[platforms.Platform]:
    """A running platform with windows of a minute; stopped at the end, and its processes with it."""
    started = platforms.start(tmp_path_factory.mktemp("platform"))
    yield started
    done = started.local("down")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, one has the platform's tests and the others a file at a time, so that what a file starts
    is started once."""
    for item in items:
        shares_platform = "platform" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("platform" if shares_platform else str(item.path)))
