"""The whole chain on real history and live orders: a real broker, scheduler, Beam jobs and the warehouse's ledger."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from local import health, services
from local.simulator.producer import open_producer
from madhatter.planning import backfill_id
from tests.bad_events import GOOD, bad_events
from tests.platform import Platform, until

TOPIC = "sales.orders"
OF_HISTORY = "order_id not like 'S%%'"


def read_topic(platform: Platform) -> dict[tuple[int, int], bytes]:
    """Every record of the topic, read apart from the platform: (partition, offset) -> value."""
    consumer = Consumer({"bootstrap.servers": platform.bootstrap, "group.id": "truth", "enable.auto.commit": False})
    found: dict[tuple[int, int], bytes] = {}
    for partition in range(4):
        place = TopicPartition(TOPIC, partition, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=30)
        consumer.assign([place])
        read = 0
        while read < end:
            for message in consumer.consume(min(10_000, end - read), 10):
                assert message.error() is None, message.error()
                offset = int(message.offset() or 0)
                if offset < end:
                    found[partition, offset] = message.value() or b""
                read = offset + 1
    consumer.close()
    return found


def claimed(platform: Platform) -> dict[int, int]:
    """End of what committed slices cover, by partition."""
    rows = platform.sql(
        "select partition, max(end_offset) as covered from ops.slice_partition "
        "join ops.slice on slice.slice_id = slice_partition.slice_id where state = 'committed' group by partition"
    )
    return {row["partition"]: row["covered"] for row in rows}


def assert_balanced(platform: Platform) -> None:
    rows = platform.sql("select * from ops.reconciliation")
    assert len(rows) == 4
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


def test_ten_windows_are_complete_and_every_event_is_accounted_for(platform: Platform) -> None:
    producer = open_producer(platform.bootstrap, {})
    sent = [value for _, value, _ in bad_events()]
    for value in sent:
        producer.produce(TOPIC, value, b"bad")
    known = read_topic(platform)
    double = next(value for place, value in sorted(known.items()) if b'"order_id":"S' in value)
    producer.produce(TOPIC, double, b"double")
    day = platform.one("select max(order_date) from ops.day")
    before = platform.one("select sum(net_sales) from marts.sales_daily where order_date = %s", day)
    late = GOOD | {"event_id": "order:LATE1", "order_id": "LATE1", "event_ts": f"{day}T12:00:00Z"}
    producer.produce(TOPIC, json.dumps(late), b"late")
    assert producer.flush(30) == 0

    until(lambda: len(platform.committed()) >= 10, "ten windows are committed", 600)
    until(
        lambda: platform.sql("select 1 as n from core.order_header where order_id = 'LATE1'"), "all is published", 300
    )

    assert_balanced(platform)
    assert sum(1 for row in platform.committed() if row["delivered"]) >= 3
    check_against_the_log(platform)
    reasons = platform.sql("select reason from ops.dead_letter where payload not like '%%\"A56318%%'")
    assert len(reasons) == len(sent)
    assert all(row["reason"] for row in reasons)
    assert platform.one("select sum(duplicates) from ops.reconciliation") == 1

    # The late order belongs to a day that was rolled up before, so that day is rolled up again.
    until(lambda: daily_run(platform, str(day)) == "success", f"retail_daily has corrected {day}")
    after = platform.one("select sum(net_sales) from marts.sales_daily where order_date = %s", day)
    assert after - before == sum(Decimal(str(line["unit_price"])) * line["quantity"] for line in GOOD["lines"])
    assert_nothing_failed(platform)


def check_against_the_log(platform: Platform) -> None:
    """core holds exactly the valid events of the log, each once, with all their lines, as far as slices are committed
    now; slices that are committed meanwhile do not count."""
    ends = claimed(platform)
    dead = {(r["partition"], r["offset"]) for r in platform.sql("select partition, offset from ops.dead_letter")}
    amounts: dict[str, Decimal] = {}
    for place, value in read_topic(platform).items():
        if place[1] < ends[place[0]] and place not in dead:
            event = json.loads(value, parse_float=Decimal)
            amount = sum(line["quantity"] * Decimal(line["unit_price"]) for line in event["lines"])
            amounts[event["order_id"]] = Decimal(amount)
    orders = platform.sql(
        "select order_id, partition, offset, sum(quantity * unit_price) as amount "
        "from core.order_line group by order_id, partition, offset"
    )
    covered = [order for order in orders if order["offset"] < ends[order["partition"]]]
    assert {order["order_id"]: order["amount"] for order in covered} == amounts
    assert len(covered) == len(amounts)


def test_day_is_rolled_up_when_its_24_hours_are_announced(platform: Platform) -> None:
    day = platform.one("select min(order_date) from ops.day")
    assert daily_run(platform, str(day)) is None
    for hour in range(24):
        assert daily_run(platform, str(day)) is None
        platform.api.announce("sales_hour", f"{day}T{hour:02}:00:00")
    until(lambda: daily_run(platform, str(day)) == "success", f"retail_daily has rolled {day} up", 120)


def daily_run(platform: Platform, day: str) -> str | None:
    """State of the newest retail_daily run of a day."""
    states = [run["state"] for run in platform.api.runs("retail_daily") if run["partition_key"] == day]
    return states[-1] if states else None


def test_failed_try_is_told_with_its_error_and_its_log(platform: Platform) -> None:
    run_id = "blocked"
    blocked = platform.instance.data / "store" / "slices" / backfill_id(run_id)
    blocked.touch()  # where the slice's folder must be
    platform.api.trigger_once("retail_backfill", run_id)
    (failure,) = until(lambda: platform.api.failures("retail_backfill", run_id), "a failed try")
    blocked.unlink()
    assert (failure.task_id, failure.number, failure.is_retried) == ("plan", 1, True)
    assert str(blocked) in failure.error
    assert failure.error.partition(": ")[2] in Path(failure.log).read_text()
    until(lambda: platform.api.run("retail_backfill", run_id)["state"] == "success", "the next try succeeds")
    assert platform.api.failures("retail_backfill", run_id) == []


def test_killed_processes_come_back_and_the_next_window_is_complete(platform: Platform) -> None:
    for service in services.ALL:
        killed = platform.kill(service)
        until(lambda: platform.pid(service) not in (0, killed), f"{service} runs again")  # noqa: B023
        until(lambda: health.ready(platform.instance, service), f"{service} answers again")  # noqa: B023
    newest = platform.committed()[-1]["window_start"]
    until(lambda: platform.committed()[-1]["window_start"] > newest, "the next window is committed", 300)
    assert_balanced(platform)
    check_against_the_log(platform)
    assert_nothing_failed(platform)
