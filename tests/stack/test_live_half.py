"""The live half of a whole platform: each theft holds its orders once and every minute is what the log says, though
everything on the way is killed. MADHATTER_LIVE_KILLS=20 kills at random instead of each in turn, MADHATTER_LIVE_SEED
says in which order and how soon."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import psutil
import pytest

from local import health, inject, processes, services
from tests import platform as platforms
from tests.live.truth import LogTruth
from tests.platform import Platform, until

PATIENCE_S = 600
# Of the orders that `make signal K=fraud` sends; the third on one card within minutes is one too many.
STOLEN = frozenset(range(3, 8))
JOB = ("prism --job_port", "include.beam.live")
ON_THE_WAY = ("pubsub", "function-fraud-detection", "function-alert-book", "function-live-loader", "warehouse")
ACTS = "minute_ts, country, channel, orders, refunds, sessions, views, carts"
SALES = "minute_ts, country, channel, sum(units) as units, sum(net_sales) as net_sales"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose stream counts."""
    before = dict(os.environ)
    started = platforms.start(
        tmp_path_factory.mktemp("live"),
        MADHATTER_HISTORY="none",
        MADHATTER_LIVE_RATE="20",
        MADHATTER_STREAM="on",
        MADHATTER_STREAM_TRIES="100",
        PLATFORM_START=datetime.now(UTC).replace(second=0, microsecond=0).isoformat(),
    )
    until(lambda: final_until(started), "a minute is final", PATIENCE_S)
    yield started
    done = started.local("down")
    os.environ.clear()
    os.environ.update(before)
    assert done.returncode == 0, done.stdout + done.stderr


def final_until(platform: Platform) -> Any:
    """Minutes before it are final; None before the first."""
    return platform.one("select max(final_until) from live.batch")


def steal(platform: Platform) -> str:
    """Sends the orders of a stolen card; returns the customer they are in the name of."""
    made = inject.fraud(platform.instance)
    inject.produce(platform.instance, made.events)
    return str(made.events[0][1]["customer_id"])


def held(platform: Platform, customer_id: str) -> Counter[int]:
    """Number of an order within its theft -> how often it is held."""
    rows = platform.sql("select order_id from ops.held_order where startswith(order_id, %s)", f"{customer_id}-")
    return Counter(int(row["order_id"].rsplit("-", 1)[1]) for row in rows)


def of_the_job(platform: Platform, name: str) -> list[psutil.Process]:
    """The streaming job's processes by a word of their command line."""
    return [
        process
        for process in processes.of_service(platform.instance.home, "dataflow")
        if process.is_running() and name in " ".join(process.cmdline())
    ]


def test_signal_shows_its_way_from_kafka_to_airflow(live: Platform) -> None:
    done = live.local("signal", "fraud")
    assert done.returncode == 0, done.stdout + done.stderr
    hops = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert hops == ["produced", "signal", "function", "alert", "Airflow"]


def test_signal_of_no_kind_names_those_that_there_are(live: Platform) -> None:
    done = live.local("signal", "flood")
    assert done.returncode == 2
    assert "give one of fraud, stock, sensor, cart" in done.stdout


def kills() -> list[tuple[str, float]]:
    """Who is killed, how many seconds after a theft."""
    number = int(os.environ.get("MADHATTER_LIVE_KILLS", "0"))
    if not number:
        return [(victim, 0.0) for victim in (*ON_THE_WAY, *JOB)]
    random = Random(int(os.environ.get("MADHATTER_LIVE_SEED", "1")))
    return [(random.choice((*ON_THE_WAY, *JOB)), random.uniform(0, 3)) for _ in range(number)]


@pytest.fixture(scope="module")
def thefts(live: Platform) -> list[str]:
    """Of each something on its way is killed; the last one is left alone."""
    found = []
    for victim, after_s in kills():
        found.append(steal(live))
        time.sleep(after_s)
        if victim in ON_THE_WAY:
            live.kill(victim)
            until(lambda: health.ready(live.instance, victim), f"{victim} answers again")  # noqa: B023
            continue
        for process in until(lambda: of_the_job(live, victim), "the streaming job runs", PATIENCE_S):  # noqa: B023
            process.kill()
    return [*found, steal(live)]


def test_every_stolen_order_is_held_once_whatever_is_killed(live: Platform, thefts: list[str]) -> None:
    for customer_id in thefts:
        until(lambda: set(held(live, customer_id)) >= STOLEN, f"the orders of {customer_id} are held", PATIENCE_S)  # noqa: B023
        assert set(held(live, customer_id).values()) == {1}
    assert live.sql("select alert_id from ops.alert group by alert_id having count(*) > 1") == []


@pytest.mark.usefixtures("thefts")
def test_every_final_minute_is_what_the_log_says(live: Platform) -> None:
    killed = datetime.now(UTC).replace(tzinfo=None)
    until(lambda: final_until(live) > killed, "what came before the kills is final", PATIENCE_S)
    services.stop(live.instance, [services.LIVE])
    span = live.sql("select min(first_minute) as first, max(final_until) as past_last from live.batch")[0]
    first, past_last = span["first"], span["past_last"]
    minutes = LogTruth(live.bootstrap).minutes(first, past_last)
    acts = [(row[1], row[2], row[4], row[5], *row[8:]) for row in minutes if row[0] == "activity"]
    sales: dict[tuple[Any, ...], tuple[int, Any]] = {}
    for row in minutes:
        if row[0] == "sales":  # the categories are those of each job's snapshot
            units, net_sales = sales.get((row[1], row[2], row[4]), (0, 0))
            sales[row[1], row[2], row[4]] = (units + row[6], net_sales + row[7])
    where = "minute_ts >= %s and minute_ts < %s"
    found = live.sql(f"select {ACTS} from live.activity_minute where {where}", first, past_last)
    assert sorted(tuple(row.values()) for row in found) == sorted(acts)
    found = live.sql(f"select {SALES} from live.sales_minute where {where} group by all", first, past_last)
    assert {tuple(row.values())[:3]: (row["units"], row["net_sales"]) for row in found} == sales
    assert len(acts) > 10
