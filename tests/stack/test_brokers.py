"""Three brokers: one may die and stay dead, two are waited for, and nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from confluent_kafka import Producer

from include.contracts.contract import topics
from local import health, services
from local.drill import hashes
from local.snowflake.client import connect
from madhatter import kafka
from madhatter.backfill import backfill_id
from madhatter.warehouse import Warehouse
from tests import platform as platforms
from tests import truth
from tests.chaos.verdict import HOUR_MARTS, judge
from tests.platform import Platform, until
from tests.stack.victims import is_locked, kill, locked, pipelines, scheduler, task_processes

JOBS = "/v1b3/projects/madhatter/locations/europe-west1/jobs"
DELIVERED = "slice_id in (select slice_id from ops.slice_partition where delivered > 0)"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of three brokers, without the history, whose first window is the one in which it comes up."""
    before = dict(os.environ)
    started = platforms.start(
        tmp_path_factory.mktemp("three"),
        BROKERS="3",
        MADHATTER_HISTORY="none",
        MADHATTER_LIVE_RATE="20",
        PLATFORM_START=datetime.now(UTC).replace(second=0, microsecond=0).isoformat(),
    )
    yield started
    done = started.local("down")
    os.environ.clear()
    os.environ.update(before)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def died(three: Platform) -> datetime:
    """When the second of the brokers was killed for good, with live events on their way."""
    until(lambda: list(three.account.glob("*.parquet")), "live events are sent")
    kill_for_good(three, "kafka-2")
    return datetime.now(UTC).replace(tzinfo=None)


def kill_for_good(platform: Platform, broker: str) -> None:
    """kill -9 of a broker that does not come back by itself."""
    if services.state(platform.instance, broker) == "RUNNING":
        platform.kill(broker)
        services.stop(platform.instance, [broker])


def bring_back(platform: Platform) -> None:
    services.start(platform.instance, platform.instance.broker_names)
    health.wait_ready(platform.instance, platform.instance.broker_names, 120)


def backfill(platform: Platform, run_id: str) -> None:
    """All that has arrived by now, as one slice."""
    platform.api.trigger_once("retail_backfill", run_id)


def ends_well(platform: Platform, run_id: str) -> None:
    until(lambda: platform.api.run("retail_backfill", run_id)["state"] == "success", f"{run_id} succeeds", 180)


def jobs(platform: Platform, name: str) -> list[dict[str, Any]]:
    """All Dataflow jobs that were ever launched under a name."""
    with urllib.request.urlopen(
        f"{platform.instance.url('dataflow')}{JOBS}?{urllib.parse.urlencode({'name': name})}"
    ) as r:
        return list(json.load(r).get("jobs", []))


def live_log(platform: Platform) -> str:
    return services.log_file(platform.instance, services.LIVE).read_text()


@pytest.mark.usefixtures("died")
def test_job_is_launched_once_though_a_broker_the_scheduler_and_the_triggerer_die_while_it_runs(
    three: Platform,
) -> None:
    assert three.pid("kafka-2") == 0
    backfill(three, "killed")
    slice_id = backfill_id("killed")
    running = until(lambda: pipelines(three, slice_id), "the slice is transformed")
    for process in running:
        process.send_signal(signal.SIGSTOP)
    until(
        lambda: "load.transform deferred" in three.api.active_tasks("retail_backfill", "killed"),
        "the task waits for its job",
    )
    for service in ("airflow-triggerer", "airflow-scheduler"):
        killed = three.kill(service)
        until(lambda: three.pid(service) not in (0, killed), f"{service} runs again")  # noqa: B023
        until(lambda: health.ready(three.instance, service), f"{service} answers again")  # noqa: B023
    for process in running:
        process.send_signal(signal.SIGCONT)
    ends_well(three, "killed")
    (job,) = jobs(three, slice_id)
    assert job["currentState"] == "JOB_STATE_DONE"
    (counts,) = three.sql(
        "select sum(delivered) as delivered from reporting.slice_status where slice_id = %s", slice_id
    )
    assert counts["delivered"] > 0


def test_windows_are_committed_while_one_broker_of_three_stays_dead(three: Platform, died: datetime) -> None:
    def later() -> list[dict[str, Any]]:
        return [row for row in three.committed() if row["window_end"] > died and row["delivered"]]

    until(later, "a window that began or went on without the broker is committed", 180)
    assert three.pid("kafka-2") == 0


@pytest.mark.usefixtures("died")
def test_two_dead_brokers_are_named_and_waited_for(three: Platform) -> None:
    kill_for_good(three, "kafka-3")
    backfill(three, "waits")
    (failure,) = until(lambda: three.api.failures("retail_backfill", "waits"), "a try of `plan` tells what is missing")
    assert (failure.task_id, failure.is_retried) == ("plan", True)
    assert f"no answer from {three.instance.address('kafka-3')}, the leader of " in failure.error
    unready = kafka.unready(kafka.admin({"bootstrap.servers": three.bootstrap}), topics())
    assert [words.split(",")[0] for words in unready] == [f"no answer from {three.instance.address('kafka-3')}"]
    waiting = live_log(three).count("is away")
    bring_back(three)
    ends_well(three, "waits")
    until(lambda: live_log(three).count("is back") >= waiting, "the live events that waited are sent")


@pytest.fixture(scope="module")
def settled(three: Platform, died: datetime) -> Platform:  # noqa: ARG001
    """No more events come, and all that came is committed, in more than one slice."""
    bring_back(three)
    until(lambda: three.sql(f"select * from ops.slice where state = 'committed' and {DELIVERED}"), "a slice is done")
    services.stop(three.instance, [services.LIVE])
    backfill(three, "rest")
    ends_well(three, "rest")
    return three


def test_after_all_deaths_every_event_is_what_the_account_says(settled: Platform, tmp_path: Path) -> None:
    verdict = judge(settled, tmp_path)
    assert verdict.findings == []
    assert verdict.counts["published"] > 0
    assert "waiting" not in verdict.counts
    assert settled.api.runs(state="failed") == []


def test_the_verdict_is_about_one_moment_whatever_happens_meanwhile(
    settled: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm = HARMS["lost event"]

    def read_log(*arguments: Any) -> Any:
        harm.do(settled)  # after the ledger was read, before core and the marts are
        return truth.read_log(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("tests.chaos.verdict.read_log", read_log)
        try:
            assert judge(settled, tmp_path).findings == []
        finally:
            harm.undo(settled)
    assert judge(settled, tmp_path).findings == []


def content(platform: Platform) -> dict[str, Any]:
    """Hashes of core and of the hour marts; the others are made at midnight."""
    with closing(Warehouse(connect(platform.instance.port("warehouse")))) as session:
        found = hashes(session)
    return {name: found[name] for name in found if name.startswith("core.") or name in HOUR_MARTS}


def test_replay_goes_on_where_it_was_though_its_job_its_task_and_the_scheduler_are_killed(
    settled: Platform, tmp_path: Path
) -> None:
    run, load = "torn", backfill_id("torn").replace("backfill", "replay")
    before = content(settled)
    # The last slice has another name for the same references: it is a load of its own.
    settled.sql(
        "update ops.slice set pins = replace(pins, '/references/', '//references/') where commit_no = "
        f"(select max(commit_no) from ops.slice where {DELIVERED})"
    )
    end = settled.one("select max(window_end) from ops.slice where state = 'committed'")
    conf = {"mode": "replay", "from": "2000-01-01T00:00:00Z", "to": f"{end.isoformat()}Z", "source": "archive"}
    with locked(settled, "ops.plan_lock"):  # no live hour is published meanwhile
        settled.api.trigger_once("retail_backfill", run, conf)
        kill(until(lambda: pipelines(settled, f"{load}-0"), "the first load is transformed"))
        for victims in (partial(task_processes, settled, run, "load.publish"), partial(scheduler, settled)):
            with locked(settled, "marts.support_hourly"):
                until(lambda: is_locked(settled, "marts.sensor_hourly"), "a publication is almost done")
                kill(victims())
            until(lambda: not is_locked(settled, "marts.sensor_hourly"), "it is rolled back")
    ends_well(settled, run)

    states = [job["currentState"] for number in range(2) for job in jobs(settled, f"{load}-{number}")]
    assert sorted(states) == ["JOB_STATE_DONE", "JOB_STATE_DONE", "JOB_STATE_FAILED"]
    tasks = settled.api.tasks("retail_backfill", run)
    assert sum(task["try_number"] for task in tasks if task["task_id"] == "load.publish") >= 4
    (noted,) = settled.sql("select loads, planned_ts, done_ts from ops.backfill where run_id = %s", run)
    assert noted["loads"] == 2
    assert noted["done_ts"] is not None
    published = [row["published_ts"] for row in settled.sql(f"select published_ts from ops.slice where {DELIVERED}")]
    assert len(set(published)) == 2  # one transaction a load
    assert min(published) > noted["planned_ts"]
    assert content(settled) == before
    assert judge(settled, tmp_path).findings == []


@dataclass(frozen=True)
class Harm:
    """What could go wrong with a table, and the words by which the verdict must name it."""

    table: str
    statement: str
    named: str

    def do(self, platform: Platform) -> None:
        platform.sql(f"create or replace table staging.saved as select * from {self.table}")
        platform.sql(self.statement)

    def undo(self, platform: Platform) -> None:
        platform.sql(f"delete from {self.table}")
        platform.sql(f"insert into {self.table} select * from staging.saved")


ONE = "event_id = (select min(event_id) from core.interaction)"
HARMS = {
    "lost event": Harm("core.interaction", f"delete from core.interaction where {ONE}", "the account says"),
    "doubled event": Harm(
        "core.interaction",
        f"insert into core.interaction select * from core.interaction where {ONE}",
        "in core or a dead letter twice",
    ),
    "changed value": Harm(
        "core.sensor_reading",
        "update core.sensor_reading set reading = reading + 0.001",
        "rows only in core.sensor_reading",
    ),
    "lost dead letters": Harm("ops.dead_letter", "delete from ops.dead_letter", "partitions that are not balanced"),
    "gap in the ledger": Harm(
        "ops.slice_partition",
        "update ops.slice_partition set end_offset = end_offset - 1 where topic = 'iot.readings' and delivered > 0",
        "claims with a gap or an overlap",
    ),
    "rows of nobody": Harm(
        "ops.slice", "update ops.slice set state = 'planned' where hours_touched > 0", "no committed slice covers"
    ),
    "stale mart": Harm(
        "marts.sensor_hourly", "update marts.sensor_hourly set readings = readings + 1", "differ from a rebuild"
    ),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_the_verdict_names_harm_that_is_done_on_purpose(settled: Platform, tmp_path: Path, harm: Harm) -> None:
    harm.do(settled)
    try:
        findings = judge(settled, tmp_path).findings
    finally:
        harm.undo(settled)
    assert any(harm.named in finding for finding in findings), findings


def test_the_verdict_is_not_about_marts_that_are_made_when_a_day_is_over(settled: Platform, tmp_path: Path) -> None:
    settled.sql("insert into marts.stock_cover (as_of_date) values ('2001-01-01')")
    try:
        assert judge(settled, tmp_path).findings == []
    finally:
        settled.sql("delete from marts.stock_cover where as_of_date = '2001-01-01'")


def test_the_drill_names_the_tables_that_a_rebuild_makes_differently(settled: Platform) -> None:
    settled.sql("update marts.sensor_hourly set readings = readings + 1")
    done = settled.local("drill")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [words[0] for words in lines if words[-1:] == ["DIFFERS"]] == ["marts.sensor_hourly"]
    settled.sql("update marts.sensor_hourly set readings = readings - 1")


def test_a_day_that_waits_for_its_correction_is_no_difference_to_the_drill(settled: Platform) -> None:
    """Rolled up before the slices that it is made of, its marts are older than core."""
    settled.sql(
        "insert into ops.day (order_date, rolled_up_ts) "
        "select distinct to_date(event_hour), '2001-01-01'::timestamp_ntz from ops.slice_hour"
    )
    try:
        assert settled.one("select count(*) from ops.day where rolled_up_ts < '2001-01-02'") > 0
        done = settled.local("drill")
    finally:
        settled.sql("delete from ops.day where rolled_up_ts < '2001-01-02'")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "marts.sales_daily" in done.stdout
    assert not (settled.instance.home / "drill").exists()


def test_the_verdict_names_an_event_that_never_reached_the_log(settled: Platform, tmp_path: Path) -> None:
    first, *_ = settled.account.glob("*.parquet")
    extra = settled.account / "zzz.parquet"
    duckdb.execute(f"copy (from '{first}' limit 1) to '{extra}'")
    try:
        (finding,) = judge(settled, tmp_path).findings
    finally:
        extra.unlink()
    assert finding.startswith("messages in the log that the account does not know, or the other way round")


def test_the_verdict_names_a_message_that_nobody_sent(settled: Platform, tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": settled.bootstrap})
    producer.produce("sales.orders", b"{}")
    assert producer.flush(30) == 0
    (finding,) = judge(settled, tmp_path).findings
    assert finding.startswith("messages in the log that the account does not know")
