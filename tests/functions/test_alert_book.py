"""ops.alert and those who are told: an alert is there once and told once, whatever comes again or is killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include import alerts
from include.alerts import Alert
from include.functions.alert_book import book, policy
from tests.functions.inboxes import Mail, Slack, raw
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


def mail_at(port: int) -> str:
    """The setting of a mail server of the test's own."""
    mail = {"host": "127.0.0.1", "port": port, "sender": "platform@example", "to": ["ops@example"], "tls": False}
    return json.dumps(mail)


def taken_after(happened: threading.Event) -> int:
    """The status of an answer that waits for something, but not so long that nobody waits for it."""
    happened.wait(4)
    return 200


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


def test_alert_that_another_transaction_keeps_out_comes_again(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    own, one, other = start("alert_book", **settings), alert("dag:kept/out"), told.warehouse.open()
    other.run("begin")
    other.run(book.LOCK)
    told.send(one)
    try:
        until(lambda: own.lines, "the function has waited for long enough")
    finally:
        other.run("rollback")
        other.close()
    assert own.lines[0]["status"] == 503
    told.until(one, "it is booked", state="open")
    assert [line for line in own.lines if line["status"] == 500] == []


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


def test_notifier_that_fails_is_asked_again_and_the_others_are_not(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    codes = chain([500], repeat(200))
    hook = Slack(lambda _: next(codes))
    with hook.serving() as url:
        own = start("alert_book", **settings, MADHATTER_ALERT_SLACK=url)
        one = alert("dag:slack/audit", severity="critical", title="<b> & co")
        told.send(one)
        until(lambda: len(own.lines) == 2, "all are told")
    assert told.row(one)["notified_ts"]
    assert [line["status"] for line in own.lines] == [503, 204]
    assert url not in own.log
    assert told.lines(one) == [one]
    (text,) = hook.taken
    assert text.startswith(":rotating_light: &lt;b&gt; &amp; co (task_failed, dag:slack/audit)")


def test_notifier_behind_one_that_answers_nonsense_is_asked(told: Told, start: Start, settings: dict[str, str]) -> None:
    inbox = Mail()
    with raw(b"nonsense\r\n\r\n") as (_, url), inbox.serving() as port:
        own = start("alert_book", **settings, MADHATTER_ALERT_SLACK=url, MADHATTER_ALERT_MAIL=mail_at(port))
        told.send(alert("dag:nonsense/audit", severity="critical"))
        until(lambda: own.lines, "it is tried")
    assert len(inbox.mails) == 1
    assert (own.lines[0]["status"], own.lines[0]["error"][:29]) == (503, "slack: Slack does not take it")


def test_people_are_told_once_of_an_alert_whose_messages_come_at_once(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    """Several signals of one order: the others are booked while people are told of the first."""
    booked = threading.Event()
    hook = Slack(lambda _: taken_after(booked))
    with hook.serving() as url:
        own = start("alert_book", **settings, MADHATTER_ALERT_SLACK=url)
        first, *others = [
            alert("order:at-once", number, severity="critical", title=f"Signal {number}") for number in range(4)
        ]
        told.send(first)
        until(lambda: hook.asked, "people are being told of the first")
        for one in others:
            told.send(one)
        until(lambda: len(own.lines) == 3, "the others are booked")
        booked.set()
        until(lambda: len(own.lines) == 4, "people have been told")
    assert [line["status"] for line in own.lines] == [204] * 4
    row = told.row(first)
    assert (row["times_raised"], row["notified_ts"] is None) == (4, False)
    assert told.lines(first) == [first]
    assert len(hook.taken) == 1


def test_alert_that_is_opened_again_while_people_are_told_of_it_is_told_again(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    """The end of the first telling is not the end of the second, which failed."""
    failed, codes = threading.Event(), chain([500], repeat(200))
    hook = Slack(lambda text: next(codes) if "Second" in text else taken_after(failed))
    first, end, second = (
        alert("dag:slow/audit", minute, severity="critical", title=title, state=state)
        for minute, title, state in ((0, "First", "open"), (10, "First", "resolved"), (20, "Second", "open"))
    )
    with hook.serving() as url:
        own = start("alert_book", **settings, MADHATTER_ALERT_SLACK=url)
        told.send(first)
        until(lambda: hook.asked, "people are being told of the first")
        told.send(end)
        told.until(first, "it is resolved", state="resolved")
        told.send(second)
        until(lambda: any(line["status"] == 503 for line in own.lines), "Slack fails")
        failed.set()
        until(lambda: len(hook.taken) == 2, "people are told of both")
        until(lambda: len(own.lines) == 4, "all are answered")
    assert told.row(first)["notified_ts"]
    assert [text.split(": ", 1)[1][:6] for text in hook.taken] == ["First ", "Second"]


def test_warning_that_becomes_critical_is_told_to_who_was_not_told(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    """Though the first try fails, and other messages come meanwhile."""
    inbox = Mail(refused=1)
    warning, critical, another = (
        alert("order:worse", minute, severity=severity, title=f"{minute}")
        for minute, severity in ((0, "warning"), (1, "critical"), (2, "critical"))
    )
    with inbox.serving() as port:
        own = start("alert_book", **settings, MADHATTER_ALERT_MAIL=mail_at(port))
        told.send(warning)
        until(lambda: len(own.lines) == 1, "it is told as a warning")
        assert (inbox.mails, told.lines(warning)) == ([], [warning])
        told.send(critical)
        until(lambda: len(own.lines) == 2, "the mail is refused")
        told.send(another)
        until(lambda: len(own.lines) == 4, "all are answered")
    assert sorted(line["status"] for line in own.lines) == [204, 204, 204, 503]
    assert ["Subject: [critical] 1" in one for one in inbox.mails] == [True]
    assert told.lines(warning) == [warning]
    row = told.row(warning)
    assert (row["severity"], row["notified_ts"] is None) == ("critical", False)


def test_alert_that_a_person_resolved_without_a_time_is_opened_again_by_a_later_one(
    told: Told, start: Start, settings: dict[str, str]
) -> None:
    own = start("alert_book", **settings)
    first, later = alert("dag:by-hand/audit"), alert("dag:by-hand/audit", 5)
    told.send(first)
    until(lambda: len(own.lines) == 1, "it is told")
    session = told.warehouse.open()
    session.run("update ops.alert set state = 'resolved' where alert_id = :alert_id", alert_id=first.alert_id)
    session.close()
    for one in (first, later):
        told.send(one)
    told.until(first, "it is open again", state="open", raised_ts=book.naive(later.raised_ts))
    until(lambda: len(own.lines) == 3, "all are answered")
    assert [line["status"] for line in own.lines] == [204] * 3


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
