"""Windows of partitioned runs: what a run's key means, which hours it completes, how far a late one reaches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from madhatter import backfill, partitions, planning
from madhatter.announce import AnnounceHours
from madhatter.settings import settings

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
TAIL = timedelta(seconds=120)


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An hour's windows with a tail of two minutes."""
    for name in ("MADHATTER_WINDOW_S", "MADHATTER_TAIL_S", "MADHATTER_CATCH_UP_AFTER_S", "PLATFORM_START"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MADHATTER_STORE", "file:///nowhere")
    settings.cache_clear()
    yield
    settings.cache_clear()


def run_with(key: str | None) -> Any:
    return {"partition_key": key}


@pytest.mark.parametrize("key", ["2026-11-23T10:00:00", "2026-11-23T10:00:00+00:00", "2026-11-23T10:00:00Z"])
def test_window_of_a_run_begins_at_its_key_and_closes_after_the_tail(key: str) -> None:
    assert partitions.window(run_with(key)) == partitions.Window(START, START + HOUR, START + HOUR + TAIL)


@pytest.mark.parametrize("key", [None, "", "yesterday"])
def test_run_whose_key_is_no_time_fails_for_good_and_is_told_how_to_get_one(key: str | None) -> None:
    with pytest.raises(AirflowFailException, match=r"is no window: trigger with one such as 20\d\d-\d\d-\d\dT"):
        partitions.window(run_with(key))


@pytest.mark.parametrize("key", ["2026-11-23T10:07:00", "2526-11-23T10:00:00"])
def test_run_off_the_grid_or_in_the_future_fails_for_good(key: str) -> None:
    with pytest.raises(AirflowFailException, match=f"partition key {key} is no window that has begun"):
        partitions.window(run_with(key))


def test_window_of_an_hour_completes_its_hour() -> None:
    assert partitions.hours_completed(START, START + HOUR) == ["2026-11-23T10:00:00"]


@pytest.mark.parametrize("minutes", [1, 5, 15, 20, 30])
def test_short_windows_complete_each_hour_once_with_their_last_one(minutes: int) -> None:
    step = timedelta(minutes=minutes)
    told = [partitions.hours_completed(START + n * step, START + (n + 1) * step) for n in range(120 // minutes)]
    assert [hours for hours in told if hours] == [["2026-11-23T10:00:00"], ["2026-11-23T11:00:00"]]
    assert told[60 // minutes - 1] == ["2026-11-23T10:00:00"]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=30), st.integers(0, 59))
def test_windows_without_gaps_complete_every_hour_once(minutes: list[int], first: int) -> None:
    at = begin = START + timedelta(minutes=first)
    told: list[str] = []
    for length in minutes:
        end = at + timedelta(minutes=length)
        told += partitions.hours_completed(at, end)
        at = end
    hours = int((at.replace(minute=0) - begin.replace(minute=0)) / HOUR)
    assert told == [f"{begin.replace(minute=0) + n * HOUR:%Y-%m-%dT%H:%M:%S}" for n in range(hours)]


@given(st.timedeltas(timedelta(0), timedelta(days=30)))
def test_window_reads_to_its_own_close_or_far_behind_to_the_newest_closed_window(late: timedelta) -> None:
    end, closes = START + HOUR, START + HOUR + TAIL
    now = closes + late
    reach = planning.reach(end, closes, now)
    assert closes <= reach <= now
    if late <= timedelta(hours=6):
        assert reach == closes
    else:
        assert (reach - closes) % HOUR == timedelta(0)
        assert now - reach < HOUR


def test_hour_slices_have_one_name_a_window_that_dataflow_takes_as_a_job_name() -> None:
    assert planning.hour_id(START) == "hour-20261123t100000"
    assert planning.hour_id(START.astimezone()) == planning.hour_id(START)


@given(st.text(max_size=250), st.text(max_size=250))
def test_backfill_slices_have_one_name_a_run(one: str, other: str) -> None:
    name = backfill.backfill_id(one)
    assert name == backfill.backfill_id(one)
    assert (name == backfill.backfill_id(other)) is (one == other)
    assert name.removeprefix("backfill-").isalnum()
    assert len(name) <= 40


@pytest.mark.parametrize("key", ["2026-01-04", "2026-01-04T00:00:00"])
def test_day_of_a_run_is_its_key(key: str) -> None:
    assert partitions.day(run_with(key)) == "2026-01-04"


@pytest.mark.parametrize("key", [None, "", "yesterday", "2026-13-01", "2026-01-04|EU"])
def test_run_whose_key_is_no_day_fails_for_good_and_is_told_how_to_get_one(key: str | None) -> None:
    with pytest.raises(AirflowFailException, match=r"is no day: trigger with one such as 20\d\d-\d\d-\d\d"):
        partitions.day(run_with(key))


def test_day_that_goes_on_is_not_rolled_up() -> None:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    with pytest.raises(AirflowFailException, match=f"partition key {today} is no day that is over"):
        partitions.day(run_with(today))


class Outlets(dict[Any, Any]):
    """The outlet events of a task: asset -> keys."""

    def __missing__(self, asset: Any) -> Any:
        keys: list[str] = []
        self[asset] = SimpleNamespace(add_partitions=keys.extend, keys=keys)
        return self[asset]


def test_hours_of_a_given_slice_are_announced_as_its_own_window_would() -> None:
    outlets = Outlets()
    given = {"window_start": "2026-11-23T10:00:00", "window_end": "2026-11-23T12:00:00"}
    told = AnnounceHours(task_id="announce", load=given).execute({"outlet_events": outlets})  # type: ignore[arg-type,typeddict-item]
    assert told == outlets[partitions.sales_hour].keys == ["2026-11-23T10:00:00", "2026-11-23T11:00:00"]
