"""What Pub/Sub pushes, and what pretends to be: a real function behind the real stand-in."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from include import alerts, signals
from include.signals import Signal
from local.pubsub.tokens import Signer
from tests.functions.running import ACCOUNT, Function, Live, status_before_body
from tests.stand_ins import until

Start = Callable[..., Function]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SIZE = 9_990_000  # Pub/Sub takes requests of 10 MB
CERTAIN = {
    "order_type": "sale",
    "amount": 900.0,
    "country": "Germany",
    "customer_id": None,
    "is_billed_abroad": True,
    "billing_countries": ["Spain"],
    "methods": ["card"],
    "window_orders": 4,
    "window_declined": 3,
    "window_countries": ["France", "Germany"],
}


def fraud(order: str, kind: Any = "order_velocity", event: str = "", **features: Any) -> Signal:
    """A signal about an order, on a stolen card unless the features say otherwise."""
    event_id = event or f"order:{order}"
    subject, about = "card:5f2c", CERTAIN | {"order_id": order} | features
    number, trace = signals.signal_id(kind, subject, event_id), signals.trace_id(event_id)
    return Signal(number, kind, subject, event_id, NOW, NOW, NOW, trace, about)


def send(live: Live, one: Signal) -> None:
    live.publish(signals.TOPICS[one.kind], signals.encode(one), kind=one.kind, trace_id=one.trace_id)


def wrapped(data: bytes, **attributes: str) -> dict[str, Any]:
    message = {"data": base64.b64encode(data).decode(), "messageId": "1", "attributes": attributes}
    return {"message": message, "subscription": "projects/madhatter/subscriptions/fraud-detection"}


def post(one: Function, body: bytes | dict[str, Any], token: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(one.url, content=content, headers=headers, timeout=60)


def test_signal_becomes_an_alert_that_holds_the_order_under_one_trace(live: Live, start: Start) -> None:
    own = start("fraud_detection")
    one = fraud("S1")
    send(live, one)
    (alert,) = live.gather(live.alerts, 1, "an alert is raised")
    assert (alert["kind"], alert["action"], alert["subject"]) == ("fraud", "hold_order", "order:S1")
    assert alert["details"]["order_ids"] == ["S1"]
    assert alert["trace_id"] == one.trace_id
    assert alert["reasons"][0] == "Shipped to Germany, billed in Spain."
    until(lambda: own.lines, "the request is logged")
    assert (own.lines[0]["trace_id"], own.lines[0]["status"]) == (one.trace_id, 204)
    assert own.lines[0]["logging.googleapis.com/trace"].endswith(one.trace_id)
    assert own.answers()["answers"] == {"204": 1}


def test_signals_about_one_order_have_one_alert(live: Live, start: Start) -> None:
    own = start("fraud_detection")
    for one in (fraud("S2"), fraud("S2"), fraud("S2", "impossible_travel", other_country="Spain", minutes=3.0)):
        send(live, one)
    until(lambda: len(own.lines) == 3, "all are judged")
    assert {one["alert_id"] for one in live.alerts()} == {alerts.alert_id("fraud", "order:S2", "")}


def test_payments_of_all_customers_that_fail_open_an_incident(live: Live, start: Start) -> None:
    start("fraud_detection")
    name = "minute:2026-11-29T11:59Z"
    features = {"window_min": 5, "payers": 50, "payers_declined": 20, "share": 0.4, "usual_share": 0.08}
    number, trace = signals.signal_id("failed_payments", "platform", name), signals.trace_id(name)
    send(live, Signal(number, "failed_payments", "platform", name, NOW, NOW, NOW, trace, features))
    (alert,) = live.gather(live.alerts, 1, "an alert is raised")
    assert (alert["kind"], alert["action"], alert["subject"]) == ("failed_payments", "open_incident", "platform")
    assert alert["reasons"][0] == "20 of 50 who paid within 5 minutes; usual are 8%."


def test_call_without_a_token_of_pubsub_is_refused_with_a_reason_and_counted(live: Live, start: Start) -> None:
    own = start("fraud_detection")
    body = wrapped(signals.encode(fraud("S3")))
    forger = live.folder / "forger.pem"
    good = live.token(own.url)
    refused = {
        "no bearer token": None,
        "the token is not valid": "x.y.z",
        "Unable to find a signing key": Signer(forger).token(ACCOUNT, own.url),
        "Audience doesn't match": live.token("https://another.function"),
        "only push@madhatter": live.token(own.url, "thief@madhatter.iam.gserviceaccount.com"),
        "Signature verification failed": good[:-8] + ("AAAAAAAA" if not good.endswith("AAAAAAAA") else "BBBBBBBB"),
        "expired": expired(live, own.url),
    }
    for words, token in refused.items():
        answer = post(own, body, token)
        assert answer.status_code == 401, words
        assert words.lower() in answer.json()["error"].lower()
    assert post(own, body, good).status_code == 204
    assert own.answers()["answers"] == {"401": len(refused), "204": 1}
    assert len(live.alerts()) == 1


def expired(live: Live, audience: str) -> str:
    """A token of Pub/Sub's that was signed two hours ago."""
    with pytest.MonkeyPatch.context() as clock:
        then = time.time() - 7200
        clock.setattr(time, "time", lambda: then)
        return live.token(audience)


def test_message_that_is_malformed_is_refused_with_a_reason_and_becomes_a_dead_letter(live: Live, start: Start) -> None:
    live.apply(attempts=5)
    own = start("fraud_detection")
    bad = {
        b"{": "no signal: ",
        b'{"signal_id": "1"}': "no signal: ",
        signals.encode(fraud("S4", order_id=4)): "whose features cannot be read",
        b"\xff\xfe": "no signal: ",
        signals.encode(fraud("S4")).replace(b"order_velocity", b"unknown_kind"): "unknown_kind",
    }
    for data in bad:
        live.publish("signals.fraud", data)
    letters = [one.data for one in live.gather(lambda: live.dead("fraud-detection"), len(bad), "all die")]
    assert sorted(letters) == sorted(bad)
    assert all(line["status"] == 400 for line in own.lines)
    assert len(bad) <= len(own.lines) <= 5 * len(bad)
    for words in bad.values():
        assert any(words in line["error"] for line in own.lines)
    send(live, fraud("S5"))
    until(live.alerts, "the one behind them is judged")


def test_message_of_ten_megabytes_is_refused_and_stops_nothing(live: Live, start: Start) -> None:
    own = start("fraud_detection")
    live.publish("signals.fraud", b"x" * SIZE)
    until(lambda: own.lines, "it is refused")
    assert (own.lines[0]["status"], own.lines[0]["error"]) == (
        413,
        f"a message of {SIZE} bytes: at most 1048576 are taken",
    )
    send(live, fraud("S6"))
    until(live.alerts, "the one behind it is judged")


def test_body_that_is_not_taken_is_left_unread(live: Live, start: Start) -> None:
    own = start("fraud_detection")
    assert status_before_body(own.port, "POST /", Authorization=f"Bearer {live.token(own.url)}") == 413
    assert status_before_body(own.port, "POST /") == 401
    assert status_before_body(own.port, "GET /") == 200
    assert status_before_body(own.port, "PUT /") == 405
    assert post(own, b"{", live.token(own.url)).json()["error"].startswith("no push of Pub/Sub")


def test_function_that_is_killed_before_it_answers_gets_the_message_again(live: Live, start: Start) -> None:
    """It is stopped while it holds the message, and killed then: the alert may be out already, or not."""
    own = start("fraud_detection")
    os.killpg(own.process.pid, signal.SIGSTOP)
    sent = [fraud(f"K{number}") for number in range(3)]
    for one in sent:
        send(live, one)
    with socket.create_connection(("127.0.0.1", own.port)):
        own.kill()
    own.start()
    raised = live.gather(live.alerts, len(sent), "all are judged")
    assert {one["subject"] for one in raised} == {f"order:K{number}" for number in range(3)}
    assert live.dead("fraud-detection") == []


def test_alert_that_pubsub_does_not_take_is_tried_again(live: Live, start: Start) -> None:
    away = start("fraud_detection", PUBSUB_EMULATOR_HOST="127.0.0.1:1")
    answer = post(away, wrapped(signals.encode(fraud("S7"))), live.token(away.url))
    assert answer.status_code == 503
    assert "topic alerts does not take a message" in answer.json()["error"]


def test_keys_that_cannot_be_had_are_passing_trouble(live: Live, start: Start) -> None:
    own = start("fraud_detection", MADHATTER_PUSH_CERTS="http://127.0.0.1:1/certs")
    assert post(own, b"{}", token := live.token(own.url)).status_code == 503
    assert status_before_body(own.port, "POST /", Authorization=f"Bearer {token}") == 503


def test_missing_setting_ends_the_start_with_its_name(live: Live, tmp_path: Path) -> None:
    env = {name: value for name, value in live.env.items() if name != "MADHATTER_PUSH_ACCOUNT"}
    own = Function("fraud_detection", tmp_path, live.functions["fraud_detection"].port, env)
    own.launch()
    assert own.process.wait(60) != 0
    assert "'MADHATTER_PUSH_ACCOUNT' is not set" in own.log
