"""Outages of days on a platform whose clock is moved: nothing is missing after, and what was missed is one slice.

Windows of half a day, from nine to nine: a night's window has midnight in it."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.contracts.contract import topics
from local import health, services
from madhatter import kafka
from tests import platform as platforms
from tests.chaos.verdict import judge
from tests.clock import MovedClock
from tests.platform import until

WINDOW = timedelta(hours=12)
CLOSED = timedelta(minutes=5)  # after a window's end
PATIENCE_S = 600
EVENTS = 40


class Shop:
    """A platform, its clock, and what a test does to them. Days are counted from the one on which it comes up."""

    def __init__(self, folder: Path) -> None:
        self.first = datetime.now(UTC).date() + timedelta(days=1)
        # It comes up before its first window ends, in which the first live events come.
        self.clock = MovedClock(folder / "clock", self.at(0, 20, 50))
        self.platform = platforms.start(
            folder / "home",
            MADHATTER_CADENCE="0 9,21 * * *",
            MADHATTER_WINDOW_S=f"{WINDOW.total_seconds():.0f}",
            MADHATTER_TAIL_S="120",
            MADHATTER_HISTORY="none",
            MADHATTER_LIVE_RATE="20",
            PLATFORM_START=self.at(0, 9).isoformat(),
            **self.clock.environment(),
        )

    def at(self, day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
        return datetime.combine(self.first + timedelta(days=day), time(hour, minute, second), UTC)

    def day(self, day: int) -> date:
        return self.first + timedelta(days=day)

    def pass_time(self, moment: datetime) -> None:
        """The clock moves while everybody is awake. Who was logged in is not any more."""
        self.clock.set(moment)
        self.platform.log_in_again()

    def sleep(self, moment: datetime) -> None:
        """Everything stands still until a moment."""
        self.clock.sleep(self.platform.instance.home, moment)
        self.platform.log_in_again()

    def sent(self) -> int:
        """How many events are in the log."""
        log = kafka.read_log(kafka.admin({"bootstrap.servers": self.platform.bootstrap}), topics(), self.clock.now)
        return sum(place.stable_end for place in log.values())

    def events_come(self) -> None:
        before = self.sent()
        until(lambda: self.sent() > before + EVENTS, "live events are sent", PATIENCE_S)

    def windows(self, first: datetime, past_last: datetime) -> list[dict[str, Any]]:
        """Those that begin in this time, committed all, oldest first."""

        def committed() -> list[dict[str, Any]]:
            rows = self.platform.committed()
            return [row for row in rows if first <= row["window_start"].replace(tzinfo=UTC) < past_last]

        wanted = (past_last - first) // WINDOW
        until(lambda: len(committed()) == wanted, f"the windows from {first} to {past_last} are committed", PATIENCE_S)
        return committed()

    def delivered(self, first: datetime, past_last: datetime) -> list[int]:
        """How many events each of these windows has."""
        return [row["delivered"] for row in self.windows(first, past_last)]

    def run_of(self, window: datetime) -> dict[str, Any] | None:
        """The run of the window that begins then."""
        key = f"{window:%Y-%m-%dT%H:%M:%S}"
        return next((run for run in self.platform.api.runs("retail_hourly") if run["partition_key"] == key), None)

    def tasks_of(self, window: datetime) -> list[str]:
        """Names and states of the tasks of a window's run that are on their way."""
        run = self.run_of(window)
        return self.platform.api.active_tasks("retail_hourly", run["dag_run_id"]) if run else []

    def slice_is_claimed(self) -> bool:
        """Whether a window's slice is on its way."""
        return bool(self.platform.one("select count_if(state <> 'committed') from ops.slice where kind = 'hour'") == 1)

    def rolled_up(self, day: int) -> Any:
        """When a day was rolled up last, None if it never was."""
        return self.platform.one("select max(rolled_up_ts) from ops.day where order_date = %s", self.day(day))

    def days_done(self, *days: int) -> None:
        for day in days:
            until(lambda: self.rolled_up(day), f"{self.day(day)} is rolled up", PATIENCE_S)  # noqa: B023

    def touched(self, window: datetime) -> list[date]:
        """The days of which the window's slice has events."""
        rows = self.platform.sql(
            "select distinct to_date(event_hour) as day from ops.slice_hour join ops.slice "
            "on slice.slice_id = slice_hour.slice_id where window_start = %s order by day",
            window.replace(tzinfo=None),
        )
        return [row["day"] for row in rows]

    def waiting_partitions(self) -> list[str]:
        """Keys of the partitions for which Airflow has started no run."""
        with closing(sqlite3.connect(self.platform.instance.airflow_home / "airflow.db")) as database:
            sql = "select partition_key from asset_partition_dag_run where created_dag_run_id is null"
            return [key for (key,) in database.execute(sql)]

    def look_again(self) -> None:
        """platform_health's next run is due."""
        self.pass_time(self.clock.now + timedelta(minutes=5))

    def pause(self, dag_id: str, is_paused: bool = True) -> None:
        self.platform.api._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": is_paused})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A platform that came up on the evening of day 0, with live events."""
    before = dict(os.environ)
    own = Shop(tmp_path_factory.mktemp("outages"))
    yield own
    done = own.platform.local("down")
    os.environ.clear()
    os.environ.update(before)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def slept(shop: Shop) -> Shop:
    """It was put to sleep on day 0 while a slice was on its way, and woke on day 3."""
    shop.events_come()
    shop.pass_time(shop.at(0, 21) + CLOSED)
    before = shop.sent()
    until(shop.slice_is_claimed, "the window is claimed", PATIENCE_S)
    until(lambda: shop.sent() > before, "events of the next window are sent", PATIENCE_S)
    shop.sleep(shop.at(3, 21) + CLOSED)
    return shop


def test_what_a_sleep_of_three_days_has_left_is_one_slice(slept: Shop) -> None:
    (in_flight,) = slept.delivered(slept.at(0, 9), slept.at(0, 21))
    missed, *others = slept.delivered(slept.at(0, 21), slept.at(3, 21))
    assert in_flight > EVENTS
    assert missed > 0
    assert others == [0] * 5


def test_days_that_were_slept_through_are_rolled_up(slept: Shop) -> None:
    slept.days_done(0, 1, 2)


@pytest.fixture(scope="module")
def unscheduled(slept: Shop) -> Shop:
    """Its scheduler was down from the evening of day 3 to that of day 4, while events came."""
    slept.windows(slept.at(3, 9), slept.at(3, 21))
    services.stop(slept.platform.instance, ["airflow-scheduler"])
    for moment in (slept.at(3, 22), slept.at(4, 8), slept.at(4, 20)):
        slept.pass_time(moment)
        slept.events_come()
    slept.pass_time(slept.at(4, 21) + CLOSED)
    services.start(slept.platform.instance, ["airflow-scheduler"])
    health.wait_ready(slept.platform.instance, ["airflow-scheduler"], 120)
    return slept


def test_what_came_in_a_day_without_a_scheduler_is_one_slice(unscheduled: Shop) -> None:
    whole, other = unscheduled.delivered(unscheduled.at(3, 21), unscheduled.at(4, 21))
    assert whole > 3 * EVENTS
    assert other == 0
    unscheduled.days_done(3)


@pytest.fixture(scope="module")
def without_broker(unscheduled: Shop) -> Shop:
    """Its broker died before the midnight after day 4. The night's window is over."""
    unscheduled.windows(unscheduled.at(4, 9), unscheduled.at(4, 21))
    unscheduled.pass_time(unscheduled.at(4, 23))
    unscheduled.events_come()
    broker = unscheduled.platform.pid("kafka")
    unscheduled.pass_time(unscheduled.at(4, 23, 59, 55))
    os.kill(broker, signal.SIGKILL)
    services.stop(unscheduled.platform.instance, ["kafka"])
    after = unscheduled.at(5, 0) + timedelta(seconds=3)
    until(lambda: unscheduled.clock.now > after, "events of the next day wait for the broker")
    unscheduled.pass_time(unscheduled.at(5, 9) + CLOSED)
    return unscheduled


@pytest.fixture(scope="module")
def with_broker(without_broker: Shop) -> Shop:
    """The broker is back."""
    services.start(without_broker.platform.instance, ["kafka"])
    health.wait_ready(without_broker.platform.instance, ["kafka"], 120)
    return without_broker


def test_window_over_midnight_waits_for_the_broker(without_broker: Shop) -> None:
    night = without_broker.at(4, 21)
    until(lambda: "hour_closed deferred" in without_broker.tasks_of(night), "the night's window waits", PATIENCE_S)
    newest = without_broker.platform.one("select max(window_start) from ops.slice where kind = 'hour'")
    assert newest.replace(tzinfo=UTC) < night


def test_window_over_midnight_is_complete_when_the_broker_is_back(with_broker: Shop) -> None:
    (night,) = with_broker.delivered(with_broker.at(4, 21), with_broker.at(5, 9))
    assert night > EVENTS
    with_broker.days_done(4)


@pytest.fixture(scope="module")
def paused(with_broker: Shop) -> Shop:
    """retail_hourly and retail_daily were paused for a day, from the evening of day 5; the hours of that day were
    announced while retail_daily still was."""
    with_broker.windows(with_broker.at(4, 21), with_broker.at(5, 9))
    with_broker.events_come()
    with_broker.pass_time(with_broker.at(5, 21) + CLOSED)
    with_broker.windows(with_broker.at(5, 9), with_broker.at(5, 21))
    with_broker.pause("retail_daily")
    with_broker.pause("retail_hourly")
    for moment in (with_broker.at(5, 22), with_broker.at(6, 20)):
        with_broker.pass_time(moment)
        with_broker.events_come()
    with_broker.pass_time(with_broker.at(6, 21) + CLOSED)
    with_broker.pause("retail_hourly", is_paused=False)
    return with_broker


def test_events_that_waited_over_midnight_are_in_both_days(paused: Shop) -> None:
    assert {paused.day(4), paused.day(5)} <= set(paused.touched(paused.at(5, 9)))
    (window,) = paused.windows(paused.at(5, 9), paused.at(5, 21))
    until(lambda: paused.rolled_up(4) > window["committed_at"], "the day before is corrected", PATIENCE_S)


def test_what_came_in_a_day_of_pause_is_one_slice(paused: Shop) -> None:
    whole, other = paused.delivered(paused.at(5, 21), paused.at(6, 21))
    assert whole > 2 * EVENTS
    assert other == 0


def test_day_whose_hours_nobody_heard_of_is_completed_by_the_clock(paused: Shop) -> None:
    paused.windows(paused.at(5, 21), paused.at(6, 21))
    until(lambda: paused.tasks_of(paused.at(6, 9)) == [], "the hours are announced", PATIENCE_S)
    assert paused.rolled_up(5) is None
    paused.pause("retail_daily", is_paused=False)
    paused.look_again()

    def states() -> list[str]:
        runs = paused.platform.api.runs("retail_daily")
        return [run["state"] for run in runs if run["partition_key"] == f"{paused.day(5)}"]

    until(lambda: "success" in states(), "retail_daily has run", PATIENCE_S)
    assert paused.rolled_up(5) is not None


@pytest.fixture(scope="module")
def settled(paused: Shop) -> Shop:
    """No more events come, and the windows with all that came are committed."""
    paused.windows(paused.at(5, 21), paused.at(6, 21))
    services.stop(paused.platform.instance, [services.LIVE])
    paused.pass_time(paused.at(7, 9) + CLOSED)
    return paused


def test_window_after_the_outages_is_one_of_its_own(settled: Shop) -> None:
    assert settled.delivered(settled.at(6, 21), settled.at(7, 9))[0] > 0
    settled.look_again()  # of the hours of day 6 too nobody has heard
    settled.days_done(5, 6)


def test_days_are_what_their_hours_are(settled: Shop) -> None:
    differences = """
        select order_date, hours.net_sales, days.net_sales as of_day from (
            select to_date(order_hour) as order_date, sum(net_sales) as net_sales from marts.sales_hourly group by 1
        ) as hours
        full join (select order_date, sum(net_sales) as net_sales from marts.sales_daily group by 1) as days
            using (order_date)
        where order_date between %s and %s and not equal_null(hours.net_sales, days.net_sales)
    """
    settled.windows(settled.at(6, 21), settled.at(7, 9))
    settled.days_done(0, 1, 2, 3, 4, 5, 6)
    until(
        lambda: settled.platform.sql(differences, settled.day(0), settled.day(6)) == [],
        "every day is the sum of its hours",
        PATIENCE_S,
    )


def test_no_partition_of_a_day_that_is_over_is_left_waiting(settled: Shop) -> None:
    """Airflow looks at the 500 oldest ones that wait: those that nothing ever resolves would stop it in the end."""
    settled.windows(settled.at(6, 21), settled.at(7, 9))
    settled.days_done(0, 1, 2, 3, 4, 5, 6)
    over = {f"{settled.day(day)}" for day in range(7)}
    until(lambda: not over & set(settled.waiting_partitions()), "each has got its run", PATIENCE_S)


def test_after_all_outages_every_event_is_what_the_account_says(settled: Shop, tmp_path: Path) -> None:
    settled.windows(settled.at(6, 21), settled.at(7, 9))
    verdict = judge(settled.platform, tmp_path)
    assert verdict.findings == []
    assert "waiting" not in verdict.counts
    assert settled.platform.api.runs(state="failed") == []
