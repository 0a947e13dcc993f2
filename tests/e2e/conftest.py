"""One platform for all tests that look at a whole one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests import platform as platforms


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[platforms.Platform]:
    """A running platform with windows of a minute; stopped at the end, and its processes with it."""
    before = dict(os.environ)
    started = platforms.start(tmp_path_factory.mktemp("platform"))
    yield started
    done = started.local("down")
    os.environ.clear()
    os.environ.update(before)
    assert done.returncode == 0, done.stdout + done.stderr
