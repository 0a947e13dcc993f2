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
