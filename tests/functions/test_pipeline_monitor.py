"""What pipeline_monitor finds wrong, and that it ends the alert when all is well again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from include import alerts, signals
from include.signals import Signal
from tests.functions.running import PROJECT, Function, Live
from tests.stand_ins import Snowflake, until

Start = Callable[..., Function]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_batches(warehouse: Snowflake) -> None:
    """Other tests of the same warehouse load some, of days long past."""
    session = warehouse.open()
    session.run("delete from live.batch")
    session.close()


@pytest.fixture
def jobs() -> Iterator[tuple[list[dict[str, str]], str]]:
    """Dataflow's list of jobs, and its address. (The stand-in's own runs real pipelines: tests/dataflow.)"""
    listed: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"jobs": listed}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield listed, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def monitor(
    live: Live, start: Start, settings: dict[str, str], jobs: tuple[list[dict[str, str]], str]
) -> Callable[..., Function]:
    """Starts pipeline_monitor where a streaming job runs. names: the functions that it looks at."""

    def begin(*names: str) -> Function:
        jobs[0].append({"name": "live", "currentState": "JOB_STATE_RUNNING"})
        here = json.dumps({name: live.urls[name] for name in names})
        return start("pipeline_monitor", **settings, DATAFLOW_API_ENDPOINT=jobs[1], MADHATTER_FUNCTIONS=here)

    return begin


def tick(live: Live, own: Function) -> list[str]:
    """A scheduler's call; returns what was found wrong."""
    before = len(own.lines)
    answer = httpx.post(own.url, headers={"Authorization": f"Bearer {live.token(own.url)}"}, timeout=60)
    assert answer.status_code == 204, answer.text
    until(lambda: len(own.lines) > before, "the call is logged")
    return list(own.lines[-1]["trouble"])


def test_drop_of_sales_opens_an_incident(live: Live, start: Start, settings: dict[str, str]) -> None:
    start("pipeline_monitor", **settings)
    features = {"counted": "orders", "window_min": 2, "count": 3, "expected": 40.0, "share": 0.075, "base_min": 30}
    name = "minute:2026-11-29T11:59Z"
    number, trace = signals.signal_id("sales_drop", "platform", name), signals.trace_id(name)
    live.publish(
        "signals.platform",
        signals.encode(Signal(number, "sales_drop", "platform", name, NOW, NOW, NOW, trace, features)),
    )
    (alert,) = live.gather(live.alerts, 1, "an alert is raised")
    assert (alert["action"], alert["title"]) == ("open_incident", "Sales have dropped to 8%")
    assert alert["reasons"][0] == "3 orders in 2 minutes, where 40 were expected."


def test_what_is_wrong_is_alerted_once_and_ends_when_it_is_well(
    live: Live,
    start: Start,
    settings: dict[str, str],
    jobs: tuple[list[dict[str, str]], str],
    warehouse: Snowflake,
) -> None:
    listed, endpoint = jobs
    here = {name: live.urls[name] for name in ("pipeline_monitor", "alert_book", "fraud_detection")}
    own = start("pipeline_monitor", **settings, DATAFLOW_API_ENDPOINT=endpoint, MADHATTER_FUNCTIONS=json.dumps(here))
    start("alert_book", **settings)
    wrong = ["function_away function:fraud_detection", "job_missing job:live"]
    assert tick(live, own) == wrong

    def states() -> dict[str, Any]:
        session = warehouse.open()
        try:
            rows = session.rows("select kind, state, times_raised from ops.alert where source = 'pipeline_monitor'")
        finally:
            session.close()
        return {row["kind"]: row["state"] for row in rows if row["times_raised"] == 1}

    until(lambda: states() == {"function_away": "open", "job_missing": "open"}, "both are booked")
    assert tick(live, own) == wrong
    assert own.lines[-1]["ended"] == []

    listed.append({"name": "live", "currentState": "JOB_STATE_RUNNING"})
    start("fraud_detection")
    assert tick(live, own) == []
    until(lambda: states() == {"function_away": "resolved", "job_missing": "resolved"}, "both have ended")

    live.apply(attempts=5)
    live.publish("signals.fraud", b"{")
    until(lambda: tick(live, own) == ["dead_letters subscription:fraud-detection"], "its dead letter is found")
    assert tick(live, own) == ["dead_letters subscription:fraud-detection"]
    assert [letter.data for letter in live.dead("fraud-detection")] == [b"{"]
    assert tick(live, own) == []


def test_alert_of_dead_letters_says_which_and_not_what_is_in_them(live: Live, monitor: Callable[..., Function]) -> None:
    own = monitor("pipeline_monitor")
    first = live.publish("dead.fraud-detection", b'{"email": "me@example.com"}')
    live.publish("dead.fraud-detection", b"{")
    assert tick(live, own) == ["dead_letters subscription:fraud-detection"]
    (alert,) = live.gather(live.alerts, 1, "an alert is raised")
    assert "example.com" not in json.dumps(alert)
    assert f"2 messages were not taken in all their attempts. The first, {first}, has 27 bytes" in alert["reasons"][0]


def test_alert_of_dead_letters_goes_on_while_they_cannot_be_looked_at(
    live: Live, monitor: Callable[..., Function], start: Start, settings: dict[str, str], warehouse: Snowflake
) -> None:
    own = monitor("pipeline_monitor", "alert_book")
    start("alert_book", **settings)
    subject, session = "subscription:live-loader", warehouse.open()
    session.run("delete from ops.alert")
    live.publish("dead.live-loader", b"{")
    assert tick(live, own) == [f"dead_letters {subject}"]
    until(lambda: session.rows("select 1 as is_open from ops.alert where state = 'open'"), "the alert is booked")

    letters, before = (
        live.subscriber.subscription_path(PROJECT, f"dead.{name}") for name in ("live-loader", "fraud-detection")
    )
    (out,) = live.subscriber.pull(subscription=letters, max_messages=1).received_messages
    live.subscriber.modify_ack_deadline(subscription=letters, ack_ids=[out.ack_id], ack_deadline_seconds=2)
    assert tick(live, own) == [f"dead_letters {subject}"], "somebody else has had it for two seconds"
    live.subscriber.delete_subscription(subscription=before)
    assert tick(live, own) == [f"dead_letters {subject}", "pubsub_failing pubsub"]
    live.subscriber.delete_subscription(subscription=letters)
    assert tick(live, own) == ["pubsub_failing pubsub"]
    assert own.lines[-1]["ended"] == []
    live.apply()
    assert tick(live, own) == []
    assert alerts.alert_id("dead_letters", subject, "") in own.lines[-1]["ended"]
    session.close()


def test_stream_that_stands_still_or_makes_nothing_final_is_told_however_long_it_does(
    live: Live, monitor: Callable[..., Function], warehouse: Snowflake
) -> None:
    own = monitor("pipeline_monitor")
    session = warehouse.open()

    def found(written_min: int, final_min: int) -> list[str]:
        """What is wrong with a last batch written, and minutes final, so many minutes ago."""
        session.run("delete from live.batch")
        written, final = (f"dateadd(minute, {-minutes}, sysdate())" for minutes in (written_min, final_min))
        session.run(
            "insert into live.batch (batch_id, written_ts, loaded_ts, newest_arrival_ts, final_until) "
            f"select 'b', {written}, {written}, {written}, {final}"
        )
        return tick(live, own)

    assert found(0, 2) == []
    assert found(0, 8) == ["live_not_final live"]
    assert found(30 * 60, 30 * 60) == ["live_stalled live"]
    session.run("delete from live.batch")
    assert tick(live, own) == []
    session.close()


def test_warehouse_that_is_away_is_what_is_wrong(
    live: Live, start: Start, settings: dict[str, str], jobs: tuple[list[dict[str, str]], str]
) -> None:
    listed, endpoint = jobs
    listed.append({"name": "live", "currentState": "JOB_STATE_RUNNING"})
    away = json.loads(settings["MADHATTER_WAREHOUSE"]) | {"port": 1}
    changed = {"MADHATTER_WAREHOUSE": json.dumps(away), "DATAFLOW_API_ENDPOINT": endpoint}
    here = json.dumps({"pipeline_monitor": live.urls["pipeline_monitor"]})
    own = start("pipeline_monitor", **settings | changed, MADHATTER_FUNCTIONS=here)
    assert tick(live, own) == ["warehouse_failing warehouse"]
    (alert,) = live.gather(live.alerts, 1, "an alert is raised")
    assert (alert["kind"], alert["severity"]) == ("warehouse_failing", "critical")
