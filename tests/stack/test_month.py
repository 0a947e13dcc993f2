"""Days with a moved clock over real parts: what is kept for a day does not grow from the second day on."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from bench.year import report
from local.instance import ROOT

A_DAY, DAYS = 2, 3
# Of days in the past, so that every clock is after them; of the same kind, so that they have about the same events.
END = "2025-06-05"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Three days of two windows each: what was measured."""
    out = tmp_path_factory.mktemp("month") / "measured.jsonl"
    days = ["--month", f"{DAYS}", "--points", "", "--a-day", f"{A_DAY}", "--kept", "1", "--end", END]
    command = [sys.executable, "-m", "bench.year", *days, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return report.read(out)


def sizes(found: list[dict[str, Any]]) -> list[dict[str, int]]:
    """At the end of each day."""
    ends = [line["size"] for line in found if line["kind"] == "day"]
    assert len(ends) == DAYS
    return ends


@pytest.mark.parametrize("what", ["files", "staged"])
def test_third_day_ends_with_no_more_than_the_second(found: list[dict[str, Any]], what: str) -> None:
    _, second, third = sizes(found)
    assert 0 < third[what] < second[what] * 1.25


def test_staging_holds_the_rows_of_the_last_day_only(found: list[dict[str, Any]]) -> None:
    staged = [line["size"]["staged"] for line in found if line["kind"] == "hour"]
    first, second, third = (end["staged"] for end in sizes(found))
    assert staged[A_DAY - 1] == first
    assert staged[2 * A_DAY - 1] - first == second
    assert staged[3 * A_DAY - 1] - second == third


def test_what_is_old_has_left_the_log(found: list[dict[str, Any]]) -> None:
    (end,) = [line for line in found if line["kind"] == "end"]
    assert 0 < end["expired"] < end["sent"]


def test_every_window_is_a_committed_slice_and_nothing_is_lost(found: list[dict[str, Any]]) -> None:
    (end,) = [line for line in found if line["kind"] == "end"]
    assert (end["slices"], end["unfinished"], end["unbalanced"]) == (A_DAY * DAYS, 0, 0)
    assert end["delivered"] == end["sent"] > 0
