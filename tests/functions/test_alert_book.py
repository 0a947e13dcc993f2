"""ops.alert and those who are told: an alert is there once and told once, whatever comes again or is killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include import alerts
from include.alerts import Alert
from include.functions.alert_book import book, policy
from tests.functions.running import Function, Live
from tests.stand_ins import Snowflake, until

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
Start = Callable[..., Function]


def alert(subject: str, minute: int = 0, **changes: Any) -> Alert:
    """Of no signal, such as Airflow raises; raised so many minutes after noon."""
    found = Alert(
        alert_id=alerts.alert_id("task_failed", subject, ""),
        source="airflow",
        kind="task_failed",
        severity="warning",
        subject=subject,
        title=f"{subject} has failed",
        reasons=["It has."],
        action="none",
        state="open",
        raised_ts=NOW + timedelta(minutes=minute),
        details={"log": "http://log"},
    )
    return msgspec.structs.replace(found, **changes)


@dataclass
class Told:
    """Who reads the file, and the rows of one alert."""

    live: Live
    warehouse: Snowflake
    file: Path

    def send(self, one: Alert) -> None:
        self.live.publish(alerts.TOPIC, alerts.encode(one), kind=one.kind, severity=one.severity)

    def rows(self, one: Alert) -> list[dict[str, Any]]:
        session = self.warehouse.open()
        try:
            return session.rows("select * from ops.alert where alert_id = :alert_id", alert_id=one.alert_id)
        finally:
            session.close()

    def row(self, one: Alert) -> dict[str, Any]:
        found = self.rows(one)
        assert len(found) <= 1
        return found[0] if found else {}

    def lines(self, one: Alert) -> list[Alert]:
        """What people have been told of it."""
        if not self.file.exists():
            return []
        return [
            found
            for line in self.file.read_bytes().splitlines()
            if (found := alerts.decode(line)) and found.alert_id == one.alert_id
        ]

    def until(self, one: Alert, what: str, **values: Any) -> dict[str, Any]:
        until(lambda: (row := self.row(one)) and all(row[name] == value for name, value in values.items()), what)
        return self.row(one)


@pytest.fixture
def told(live: Live, warehouse: Snowflake, settings: dict[str, str]) -> Told:
    return Told(live, warehouse, Path(settings["MADHATTER_ALERT_FILE"]))


def test_alert_that_comes_again_stands_once_and_is_told_once(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    start("alert_book", **settings)
    one = alert("dag:twice/audit")
    for _ in range(3):
        told.send(one)
    row = told.until(one, "all are booked", times_raised=3)
    assert (row["state"], row["severity"], row["raised_ts"]) == ("open", "warning", book.naive(NOW))
    assert json.loads(row["details"]) == {"log": "http://log"}
    until(lambda: told.row(one)["notified_ts"], "people are told")
    assert told.lines(one) == [one]
    assert told.live.dead("alert-book") == []


def test_resolved_alert_is_opened_again_by_a_newer_one_only(told: Told, start: Start, settings: dict[str, str]) -> None:
    own = start("alert_book", **settings)
    first, second = alert("dag:again/audit"), alert("dag:again/audit", 20)
    told.send(first)
    told.until(first, "it is open", state="open")
    told.send(alert("dag:again/audit", 10, state="resolved"))
    row = told.until(first, "it is resolved", state="resolved")
    assert row["resolved_ts"] == book.naive(NOW + timedelta(minutes=10))
    told.send(first)
    until(lambda: len(own.lines) == 3, "the old one is looked at")
    assert told.row(first)["state"] == "resolved"
    told.send(second)
    row = told.until(first, "it is open again", state="open")
    assert (row["raised_ts"], row["resolved_ts"]) == (book.naive(second.raised_ts), None)
    until(lambda: told.row(first)["notified_ts"], "people are told again")
    assert told.lines(first) == [first, second]


def test_end_that_comes_before_its_beginning_ends_it_all_the_same(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    own = start("alert_book", **settings)
    told.send(alert("dag:order/audit", 5, state="resolved"))
    one = alert("dag:order/audit")
    told.until(one, "the end is booked", state="resolved")
    told.send(one)
    until(lambda: len(own.lines) == 2, "the beginning is looked at")
    assert told.row(one)["state"] == "resolved"
    assert told.lines(one) == []


def test_alerts_are_booked_once_though_the_function_is_killed_while_it_works(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    own = start("alert_book", **settings)
    many = [alert(f"dag:killed/{number}") for number in range(30)]
    for one in many:
        told.send(one)
    for _ in range(3):
        until(lambda: told.rows(many[0]) or own.log, "it works")
        own.kill()
        own.start()
    for one in many:
        until(lambda one=one: (row := told.row(one)) and row["notified_ts"], f"{one.subject} is booked and told of")  # type: ignore[misc]
        assert told.lines(one) == [one]
    assert told.live.dead("alert-book") == []


def test_alert_waits_for_a_warehouse_that_is_away(
    live: Live, start: Start, tmp_path: Path, settings: dict[str, str], warehouse: Snowflake
) -> None:
    away = json.loads(settings["MADHATTER_WAREHOUSE"]) | {"port": live.pubsub.http_port}
    own = start("alert_book", **settings | {"MADHATTER_WAREHOUSE": json.dumps(away)})
    told = Told(live, warehouse, tmp_path / "alerts.jsonl")
    one = alert("dag:away/audit")
    told.send(one)
    until(lambda: own.lines, "it is tried")
    assert own.lines[0]["status"] == 503
    assert "the warehouse does not do it" in own.lines[0]["error"]
    own.kill()
    own.env = {**own.env, **settings}
    own.start()
    told.until(one, "it is booked when the warehouse is back", state="open")


@dataclass
class Slack:
    """A webhook that answers with these codes in turn, the last one for ever."""

    codes: list[int]
    texts: list[str] = field(default_factory=list)

    def start(self) -> ThreadingHTTPServer:
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code = own.codes.pop(0) if len(own.codes) > 1 else own.codes[0]
                if code == 200:
                    own.texts.append(body["text"])
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@pytest.fixture
def slack() -> Iterator[tuple[Slack, str]]:
    own = Slack([500, 200])
    server = own.start()
    yield own, f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()


def test_notifier_that_fails_is_asked_again_and_the_others_are_not(
    told: Told, start: Start, settings: dict[str, str], slack: tuple[Slack, str]
) -> None:
    hook, url = slack
    own = start("alert_book", **settings, MADHATTER_ALERT_SLACK=url)
    one = alert("dag:slack/audit", severity="critical", title="<b> & co")
    told.send(one)
    until(lambda: len(own.lines) == 2, "all are told")
    assert told.row(one)["notified_ts"]
    assert [line["status"] for line in own.lines] == [503, 204]
    assert url not in own.log
    assert told.lines(one) == [one]
    (text,) = hook.texts
    assert text.startswith(":rotating_light: &lt;b&gt; &amp; co (task_failed, dag:slack/audit)")


def test_body_that_is_no_alert_is_a_dead_letter(told: Told, live: Live, start: Start, settings: dict[str, str]) -> None:
    own = start("alert_book", **settings)
    live.publish(alerts.TOPIC, b'{"alert_id": "1"}')
    until(lambda: own.lines, "it is refused")
    assert own.lines[0]["status"] == 400
    assert "no alert: " in own.lines[0]["error"]
    one = alert("dag:behind/audit")
    told.send(one)
    told.until(one, "the one behind it is booked", state="open")


def test_policy_of_the_repository_tells_people_of_fraud_and_keeps_the_night_quiet() -> None:
    rules = policy.read()

    def told(one: Alert, hour: int, before: int = 0) -> list[str]:
        return list(rules.told(one, NOW.replace(hour=hour), lambda *_: before))

    fraud = alert("order:1", kind="fraud", severity="critical")
    assert told(fraud, 3) == ["file", "slack"]
    assert told(fraud, 3, before=20) == ["file"]
    assert told(alert("dag:a/b"), 12) == ["file", "slack"]
    assert told(alert("dag:a/b"), 23) == told(alert("dag:a/b"), 5) == ["file"]


def test_policy_that_is_wrong_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text("tell: [{to: [pigeon]}]")
    with pytest.raises(ValueError, match=r"alerts\.yaml: Invalid enum value 'pigeon'"):
        policy.read(file)


@given(st.lists(st.tuples(st.sampled_from(["open", "resolved"]), st.integers(0, 5)), min_size=1, max_size=8))
def test_newest_message_decides_whatever_the_order(messages: list[tuple[Any, int]]) -> None:
    """Of two as new as each other the end."""
    row: dict[str, Any] | None = None
    for state, minute in messages:
        one = alert("dag:any/order", minute, state=state)
        at = book.naive(one.raised_ts)
        change = book.change_of(one, row)
        if change == "new":
            row = {"state": state, "last_raised_ts": at, "resolved_ts": at if state == "resolved" else None}
        elif change == "again" and row:
            row["last_raised_ts"] = max(row["last_raised_ts"], at)
        elif change == "reopened" and row:
            row |= {"state": "open", "last_raised_ts": at, "resolved_ts": None}
        elif change == "resolved" and row:
            row |= {"state": "resolved", "resolved_ts": at}
    assert row is not None
    newest = max(minute for _, minute in messages)
    assert row["state"] == max(state for state, minute in messages if minute == newest)
