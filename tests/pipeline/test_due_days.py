"""Days by the ledger alone: which are due, which wait, what the sweep makes of those of which nobody told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.contracts.contract import topics
from local.instance import ROOT, Instance
from madhatter import days, kafka, publish
from madhatter.days import DueDay
from tests.pipeline.chain import Chain, order
from tests.stand_ins import Broker, Snowflake

DAY = "2011-01-04"
HOUR = timedelta(hours=1)


def publish_window(chain: Chain, slice_id: str, start: str, end: str) -> None:
    """A slice of all that was sent, whose window is this one."""
    chain.run(slice_id)
    set_window(chain, slice_id, start, end)


def set_window(chain: Chain, slice_id: str, start: str, end: str) -> None:
    chain.warehouse.run(
        "update ops.slice set window_start = :start, window_end = :end where slice_id = :id",
        start=start,
        end=end,
        id=slice_id,
    )


def due(chain: Chain, later: timedelta = timedelta(0)) -> list[tuple[str, bool]]:
    """The days that are due at a moment, and whether they were rolled up before."""
    return [(one.day, one.is_correction) for one in days.due(chain.warehouse, datetime.now(UTC) + later)]


def roll_up(chain: Chain) -> None:
    publish.roll_up(chain.warehouse, [DAY])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker with all topics, empty."""
    (tmp_path / "broker").mkdir()
    own = Broker(tmp_path / "broker")
    own.start()
    kafka.create_topics(own.admin, topics())
    yield own
    own.end()


@pytest.fixture
def day(chain: Chain) -> Chain:
    """A chain whose day is covered by one window."""
    chain.send(0, order("1", f"{DAY}T10:00:00Z"))
    publish_window(chain, "hour-1", f"{DAY} 00:00", "2011-01-05 00:00")
    return chain


def test_day_is_due_once_the_ledger_covers_it_and_until_it_is_rolled_up(day: Chain) -> None:
    set_window(day, "hour-1", f"{DAY} 00:00", f"{DAY} 23:00")
    assert due(day) == []
    set_window(day, "hour-1", f"{DAY} 00:00", "2011-01-05 00:00")
    assert due(day) == [(DAY, False)]
    roll_up(day)
    assert due(day, 2 * HOUR) == []


def test_day_waits_for_a_held_window_of_its_own_and_for_no_other(day: Chain) -> None:
    day.send(0, order("2", f"{DAY}T11:00:00Z"))
    day.staged("hour-2")
    day.warehouse.run("update ops.slice set state = 'held' where slice_id = 'hour-2'")
    set_window(day, "hour-2", f"{DAY} 23:00", "2011-01-05 00:00")
    assert due(day) == []
    set_window(day, "hour-2", "2011-01-05 00:00", "2011-01-05 01:00")
    assert due(day) == [(DAY, False)]


def test_correction_is_due_at_once_and_the_next_one_an_hour_after_it(day: Chain) -> None:
    roll_up(day)
    day.send(0, order("2", f"{DAY}T11:00:00Z"))
    publish_window(day, "hour-2", "2011-01-05 00:00", "2011-01-05 01:00")
    assert due(day) == [(DAY, True)]
    roll_up(day)
    assert due(day, 3 * HOUR) == []
    day.send(0, order("3", f"{DAY}T12:00:00Z"))
    publish_window(day, "hour-3", "2011-01-05 01:00", "2011-01-05 02:00")
    assert due(day) == []
    assert due(day, HOUR - timedelta(minutes=1)) == []
    assert due(day, HOUR) == [(DAY, True)]
    roll_up(day)
    assert due(day, 3 * HOUR) == []


def test_day_whose_slices_are_being_replayed_is_left_to_the_backfill(day: Chain) -> None:
    day.warehouse.run(
        "insert into ops.backfill (run_id, backfill_mode, from_ts, to_ts, planned_ts) "
        "select 'run', 'replay', '2011-01-04 12:00', '2011-01-04 13:00', sysdate()"
    )
    assert due(day) == []
    day.warehouse.run("update ops.backfill set done_ts = sysdate()")
    assert due(day) == [(DAY, False)]
    day.warehouse.run("update ops.backfill set done_ts = null, planned_ts = dateadd(hour, -25, sysdate())")
    assert due(day) == [(DAY, False)]


def test_day_that_is_due_for_longer_is_found_as_lost(day: Chain) -> None:
    now = datetime.now(UTC)
    (row,) = day.warehouse.rows("select published_ts from ops.slice")
    since = row["published_ts"].replace(tzinfo=UTC)
    assert days.due(day.warehouse, now + HOUR, HOUR * 2) == []
    assert days.due(day.warehouse, now + HOUR, timedelta(minutes=59)) == [DueDay(DAY, False, since)]


# Runs operators as Airflow does, with what they emit written down.
OPERATE = """
import json
from datetime import timedelta
from types import SimpleNamespace
from airflow.sdk.exceptions import AirflowSkipException
from madhatter.days import AnnounceCorrections, AnnounceDueDays, RollUpDay, RollUpLostDays
from madhatter.health import MeasurePlatform
from madhatter.partitions import correction, sales_day

def run(task, **more):
    emitted = []
    outlet = SimpleNamespace(add_partitions=emitted.extend)
    context = {
        "ti": SimpleNamespace(dag_id="dag", task_id=task.task_id, run_id="run", try_number=more.get("try_number", 1)),
        "dag_run": SimpleNamespace(run_id="run", run_type=more.get("run_type", "asset_triggered")),
        "partition_key": more.get("key"),
        "outlet_events": {correction: outlet, sales_day: outlet},
    }
    try:
        returned = task.execute(context)
    except AirflowSkipException as skipped:
        return ["skipped", str(skipped)]
    return [returned, emitted]

own = "2011-01-04T00:00:00"
load = {"hours": ["2011-01-04T10:00:00"]}
found = {
    "correct before": run(AnnounceCorrections(task_id="a", load=load)),
    "announce": run(AnnounceDueDays(task_id="b")),
    "not lost yet": run(RollUpLostDays(task_id="c")),
    "lost": run(RollUpLostDays(task_id="d", lost_after=timedelta(0))),
    "nothing lost": run(RollUpLostDays(task_id="e", lost_after=timedelta(0))),
    "nothing due": run(AnnounceDueDays(task_id="f")),
    "told twice": run(RollUpDay(task_id="g"), key=own),
    "asked": run(RollUpDay(task_id="h"), key=own, run_type="manual"),
    "cleared": run(RollUpDay(task_id="i"), key=own, try_number=2),
    "measure": run(MeasurePlatform(task_id="j")),
}
print("FOUND" + json.dumps(found))
"""


def test_sweep_alone_completes_days_and_measures_the_platform(day: Chain, snowflake: Snowflake, broker: Broker) -> None:
    instance = Instance(snowflake.folder / "instance", snowflake.base)
    env = instance.environment() | {
        "AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps(
            {"conn_type": "kafka", "extra": {"bootstrap.servers": broker.bootstrap}}
        ),
        "MADHATTER_STORE": day.store,
    }
    done = subprocess.run(
        [sys.executable, "-c", OPERATE], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("FOUND", 1)[1])
    for skipped in ("correct before", "not lost yet", "nothing lost", "nothing due", "told twice"):
        assert found[skipped][0] == "skipped", skipped
    assert found["announce"] == [[DAY], [f"{DAY}T00:00:00"]]
    assert found["lost"] == [[DAY], [DAY]]
    assert found["asked"][0] == found["cleared"][0] == [DAY]
    (sales,) = day.warehouse.rows("select sum(orders) as orders from marts.sales_daily")
    assert sales["orders"] == 1
    measured = found["measure"][0]
    assert measured["held_slices all"] == measured["unbalanced_partitions all"] == 0
    assert measured["dead_letter_share sales.orders"] == 0
    assert measured["lag web.interactions[0]"] == 0
    assert measured["published_age_s sales_hourly"] > 3600 * 24 * 365
    assert measured["published_age_s sales_daily"] > 3600 * 24 * 365
    assert 0 < measured["store_free_share disk"] < 1
