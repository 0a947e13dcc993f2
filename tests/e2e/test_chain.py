"""The whole chain on real history and live orders: a real broker, scheduler, Beam jobs and the warehouse's ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import duckdb
from confluent_kafka import KafkaError, Message

from include.contracts.contract import contract, topics
from local import health, services
from local.simulator.producer import open_producer
from madhatter.backfill import backfill_id
from tests import truth
from tests.bad_events import GOOD, bad_events
from tests.platform import Platform, until
from tests.truth import Truth

TOPIC = "sales.orders"
OF_HISTORY = "order_id not like 'S%%'"


def read_log(platform: Platform, folder: Path) -> Truth:
    """Every record of all topics, read apart from the platform; with the simulator's account."""
    return Truth(truth.read_log(platform.bootstrap, list(topics()), folder / "log.parquet"), platform.account)


def claimed(platform: Platform) -> list[dict[str, Any]]:
    """topic, partition, covered: the end of what committed slices cover."""
    return platform.sql(
        "select topic, partition, max(end_offset) as covered from ops.slice_partition "
        "join ops.slice on slice.slice_id = slice_partition.slice_id where state = 'committed' group by all"
    )


def send(platform: Platform, values: list[bytes], key: bytes) -> list[tuple[int, int]]:
    """Sends orders; returns (partition, offset) of each."""
    producer = open_producer(platform.bootstrap, {})
    places: list[tuple[int, int]] = []

    def note(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        places.append((int(message.partition() or 0), int(message.offset() or 0)))

    for value in values:
        producer.produce(TOPIC, value, key, on_delivery=note)
    assert producer.flush(30) == 0
    return places


def assert_balanced(platform: Platform) -> None:
    rows = platform.sql("select * from ops.reconciliation")
    assert len(rows) == sum(contract(topic).partitions for topic in topics())
    assert all(row["is_balanced"] for row in rows), rows


def assert_nothing_failed(platform: Platform) -> None:
    failed = platform.api.runs(state="failed")
    assert not failed, [(run["dag_id"], run["dag_run_id"]) for run in failed]


def test_history_is_in_core_to_the_penny(platform: Platform) -> None:
    (lines,) = platform.sql(
        f"select count(*) as n, sum(quantity * unit_price) as amount from core.order_line where {OF_HISTORY}"
    )
    assert lines == {"n": 541_907, "amount": Decimal("9769872.054")}
    assert platform.one(f"select count(*) from core.order_header where {OF_HISTORY}") == 25_898


def test_history_in_original_time_has_the_known_december(platform: Platform) -> None:
    amount = platform.one(
        "select sum(quantity * unit_price) from core.order_line, ops.history "
        f"where {OF_HISTORY} and dateadd(week, -shift_weeks, event_ts) < '2011-01-01'"
    )
    assert amount == Decimal("748957.020")


def test_negative_prices_are_dead_letters_with_a_reason(platform: Platform) -> None:
    rows = platform.sql("select reason, payload from ops.dead_letter where payload like '%%\"A56318%%'")
    assert sorted(json.loads(row["payload"])["order_id"] for row in rows) == ["A563186", "A563187"]
    assert {row["reason"] for row in rows} == {"lines[0].unit_price: -11062.06 is below the minimum 0"}


def test_kinds_of_orders_are_told_apart(platform: Platform) -> None:
    rows = platform.sql(f"select order_type, count(*) as n from core.order_header where {OF_HISTORY} group by all")
    found = {row["order_type"]: row["n"] for row in rows}
    assert found == {"sale": 19_959, "return": 3_836, "adjustment": 1_337, "gift": 766}


def test_second_up_changes_nothing(platform: Platform) -> None:
    before = {row.name: row.pid for row in health.status(platform.instance)}
    done = platform.local("up")
    assert done.returncode == 0, done.stderr
    assert {row.name: row.pid for row in health.status(platform.instance)} == before
    assert platform.one("select count(*) from ops.history") == 1


def test_market_goes_on_where_the_history_ends_without_a_step(platform: Platform) -> None:
    days = platform.sql(
        f"select to_date(event_ts) as day, count_if({OF_HISTORY}) as real, count_if(not {OF_HISTORY}) as simulated "
        "from core.order_header where order_type = 'sale' group by all order by day"
    )
    last_real = max(row["day"] for row in days if row["real"])
    before = [row["real"] for row in days if last_real - timedelta(weeks=4) <= row["day"] < last_real]
    today = datetime.now(UTC).date()
    after = [row["simulated"] for row in days if last_real < row["day"] < today]
    # The shop is closed on Saturdays: on the weekend after the history's last Friday no day of trade is over.
    trade = [
        last_real + timedelta(n)
        for n in range(1, (today - last_real).days)
        if (last_real + timedelta(n)).weekday() != 5
    ]
    assert len(after) == len(trade), "the market begins the day after the history"
    if trade:
        assert min(before) / 2 < mean(after) < max(before) * 1.5
    assert sum(row["simulated"] for row in days) > 0


def test_live_stream_begins_where_the_market_before_it_ends(platform: Platform) -> None:
    end_ms = json.loads((platform.instance.data / "market.json").read_text())["until_ms"]

    def sends() -> list[int]:
        sql = "select epoch_ms(send_ts) from read_parquet(?) where epoch_ms(send_ts) between ? and ? order by 1"
        with duckdb.connect() as connection:
            near = [str(platform.account / "*.parquet"), end_ms - 60_000, end_ms + 60_000]
            return [ms for (ms,) in connection.execute(sql, near).fetchall()]

    until(lambda: sends()[-1] > end_ms + 50_000, "a minute of the live stream is sent")
    assert max(later - earlier for earlier, later in pairwise(sends())) < 10_000


def test_ten_windows_are_complete_and_every_event_is_accounted_for(platform: Platform, tmp_path: Path) -> None:
    bad = send(platform, [value for _, value, _ in bad_events()], b"bad")
    order = platform.one(f"select min(order_id) from core.order_header where not {OF_HISTORY}")
    log = read_log(platform, tmp_path)
    ((again,),) = log.rows(f"select event from message where event_id = 'order:{order}' limit 1")
    (double,) = send(platform, [again.encode()], b"double")
    day = platform.one("select max(order_date) from ops.day where order_date < dateadd(day, -60, current_date)")
    before = platform.one("select sum(net_sales) from marts.sales_daily where order_date = %s", day)
    late = GOOD | {"event_id": "order:LATE1", "order_id": "LATE1", "event_ts": f"{day}T12:00:00Z"}
    send(platform, [json.dumps(late).encode()], b"late")

    until(
        lambda: len(platform.committed()) >= 10 and sum(1 for row in platform.committed() if row["delivered"]) >= 3,
        "ten windows are committed, three of them with events",
        600,
    )
    until(
        lambda: platform.sql("select 1 as n from core.order_header where order_id = 'LATE1'"), "all is published", 300
    )

    assert_balanced(platform)
    log = check_against_the_log(platform, tmp_path)
    check_against_the_account(log)
    dead = {(row["partition"], row["offset"]): row["reason"] for row in dead_letters(platform) if row["topic"] == TOPIC}
    assert all(dead[place] for place in bad)
    assert double not in dead
    assert log.rows(f"select * from event where topic = '{TOPIC}' and (partition, \"offset\") = {double}") == []

    # The late order belongs to a day that was rolled up before, so that day is rolled up again.
    until(lambda: daily_run(platform, str(day)) == "success", f"retail_daily has corrected {day}")
    after = platform.one("select sum(net_sales) from marts.sales_daily where order_date = %s", day)
    assert after - before == sum(Decimal(str(line["unit_price"])) * line["quantity"] for line in GOOD["lines"])
    assert_nothing_failed(platform)


def dead_letters(platform: Platform) -> list[dict[str, Any]]:
    return platform.sql("select topic, partition, offset, reason from ops.dead_letter")


def check_against_the_log(platform: Platform, folder: Path) -> Truth:
    """core holds exactly the valid events of the log, each once, orders with all their lines, as far as slices are
    committed now; slices that are committed meanwhile do not count."""
    ends = claimed(platform)
    log = read_log(platform, folder)
    log.load("ends", ends)
    log.load("dead", dead_letters(platform))
    log.load("event", platform.sql("select topic, partition, offset, event_id from ops.event"))
    log.db.execute(
        """
        create or replace table live as
        select message.*, event.topic is not null as is_published
        from message join ends using (topic, partition)
        left join event using (topic, partition, "offset")
        where "offset" < covered and (topic, partition, "offset") not in (select (topic, partition, "offset") from dead)
        """
    )
    once = "from live group by all having count(*) filter (is_published) <> 1 limit 5"
    assert log.rows(f"select topic, event_id, event_ts::date as day {once}") == []
    orders = platform.sql(
        "select partition, offset, sum(quantity * unit_price) as amount from core.order_line group by partition, offset"
    )
    log.load("core_order", orders)
    wrong = log.rows(
        f"""
        with sent as (
            select partition, "offset", unnest(cast(event -> 'lines' as json[])) as line
            from live where topic = '{TOPIC}' and is_published
        ),
        amounts as (
            select partition, "offset",
                sum((line ->> 'quantity')::int * (line ->> 'unit_price')::decimal(12, 3)) as amount
            from sent group by all
        )
        select amounts.*, core_order.amount from amounts left join core_order using (partition, "offset")
        where amounts.amount is distinct from core_order.amount limit 5
        """
    )
    assert wrong == []
    return log


def check_against_the_account(log: Truth) -> None:
    """What the simulator says it sent became what it says, event by event. Orders have other senders too."""
    wrong = log.rows(
        f"""
        select topic, partition, "offset", kind, outcome, found from (
            select expected.*, case when event.topic is not null then 'published'
                when dead.topic is not null then 'dead letter' else 'duplicate' end as found
            from expected join ends using (topic, partition)
            left join event using (topic, partition, "offset")
            left join dead using (topic, partition, "offset")
            where "offset" < covered and topic <> '{TOPIC}'
        ) where found <> outcome limit 5
        """
    )
    assert wrong == []
    (counts,) = log.rows(f"select sum(covered) from ends where topic <> '{TOPIC}'")
    accounted = f"from expected join ends using (topic, partition) where \"offset\" < covered and topic <> '{TOPIC}'"
    assert log.rows(f"select count(*) {accounted}") == [counts]


def test_day_is_rolled_up_when_its_24_hours_are_announced(platform: Platform) -> None:
    day = platform.one("select min(order_date) from ops.day")
    assert daily_run(platform, str(day)) is None
    platform.sql("delete from ops.day where order_date = %s", day)
    for hour in range(24):
        assert daily_run(platform, str(day)) is None
        platform.api.announce("sales_hour", f"{day}T{hour:02}:00:00")
    until(lambda: daily_run(platform, str(day)) == "success", f"retail_daily has run for {day}", 120)
    assert platform.one("select count(*) from ops.day where order_date = %s", day) == 1


DAILY = ("sales_daily", "sales_category_daily", "product_daily", "customer_daily")


def test_platform_health_alone_completes_a_day_when_no_asset_event_arrives(platform: Platform) -> None:
    day = platform.one("select to_date(dateadd(week, shift_weeks, '2010-12-01'::timestamp_ntz)) from ops.history")

    def content() -> dict[str, Any]:
        which = "where order_date = %s"
        return {
            name: platform.sql(f"select hash_agg(*) as h, count(*) as n from marts.{name} {which}", day)
            for name in DAILY
        }

    before = content()
    assert all(rows[0]["n"] for rows in before.values())
    run = "no-assets"
    (began,) = platform.sql("select sysdate() as at")
    platform.api.pause("retail_daily")  # events for a paused consumer are lost
    try:
        for table in (*(f"marts.{name}" for name in DAILY), "ops.day"):
            platform.sql(f"delete from {table} where order_date = %s", day)
        for hour in range(24):
            platform.api.announce("sales_hour", f"{day}T{hour:02}:00:00")
        # As if it had been published an hour ago, and nobody had told.
        platform.sql(
            "update ops.slice set published_ts = dateadd(hour, -1, published_ts) "
            "where slice_id in (select slice_id from ops.slice_hour where to_date(event_hour) = %s)",
            day,
        )
        platform.api.trigger_once("platform_health", run)
        until(lambda: platform.api.run("platform_health", run)["state"] == "success", "platform_health succeeds")
        assert platform.one("select count(*) from ops.day where order_date = %s", day) == 1
    finally:
        platform.api.unpause("retail_daily")
    assert content() == before
    assert daily_run(platform, str(day)) is None
    measured = platform.sql("select distinct metric_name from ops.metric where measured_ts > %s", began["at"])
    always = {"dead_letter_share", "held_slices", "lag", "published_age_s", "store_free_share", "unfinished_slices"}
    assert {row["metric_name"] for row in measured} >= always
    assert_nothing_failed(platform)


def daily_run(platform: Platform, day: str) -> str | None:
    """State of the newest retail_daily run of a day."""
    states = [run["state"] for run in platform.api.runs("retail_daily") if run["partition_key"] == day]
    return states[-1] if states else None


def test_replay_of_published_windows_from_the_archive_changes_nothing(platform: Platform) -> None:
    windows = until(lambda: [row for row in platform.committed() if row["delivered"]], "a window with events")
    first, last = windows[0], windows[-1]

    def content() -> dict[str, Any]:
        tables = ("interaction", "sensor_reading", "order_header", "order_line")
        which = "where slice_id in (select slice_id from ops.slice where window_end <= %s and kind = 'hour')"
        return {
            name: platform.sql(f"select hash_agg(*) as h, count(*) as n from core.{name} {which}", last["window_end"])
            for name in tables
        }

    before = content()
    conf = {
        "mode": "replay",
        "from": f"{first['window_start'].isoformat()}Z",
        "to": f"{last['window_end'].isoformat()}Z",
        "source": "archive",
    }
    body = {"dag_run_id": "replay", "logical_date": None, "conf": conf}
    platform.api._call("POST", "/api/v2/dags/retail_backfill/dagRuns", body)
    until(lambda: platform.api.run("retail_backfill", "replay")["state"] == "success", "the replay succeeds", 300)
    assert content() == before
    (replayed,) = platform.sql("select * from ops.backfill where run_id = 'replay'")
    assert replayed["slices"] >= len(windows), "and the history, when its window reaches into the first of them"
    assert replayed["done_ts"] is not None
    assert_balanced(platform)


def test_failed_try_is_told_with_its_error_and_its_log(platform: Platform) -> None:
    run_id = "blocked"
    blocked = platform.instance.data / "store" / "loads" / backfill_id(run_id)
    blocked.touch()  # where the slice's folder must be
    platform.api.trigger_once("retail_backfill", run_id)
    (failure,) = until(lambda: platform.api.failures("retail_backfill", run_id), "a failed try")
    blocked.unlink()
    assert (failure.task_id, failure.number, failure.is_retried) == ("plan", 1, True)
    assert str(blocked) in failure.error
    assert failure.error.partition(": ")[2] in Path(failure.log).read_text()
    until(lambda: platform.api.run("retail_backfill", run_id)["state"] == "success", "the next try succeeds")
    assert platform.api.failures("retail_backfill", run_id) == []


def test_killed_processes_come_back_and_the_next_window_is_complete(platform: Platform, tmp_path: Path) -> None:
    for service in services.all_of(platform.instance):
        killed = platform.kill(service)
        until(lambda: platform.pid(service) not in (0, killed), f"{service} runs again")  # noqa: B023
        until(lambda: health.ready(platform.instance, service), f"{service} answers again")  # noqa: B023
    newest = platform.committed()[-1]["window_start"]
    until(lambda: platform.committed()[-1]["window_start"] > newest, "the next window is committed", 300)
    assert_balanced(platform)
    check_against_the_log(platform, tmp_path)
    assert_nothing_failed(platform)
