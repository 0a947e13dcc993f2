"""Events of partners, by HTTP and by Pub/Sub: good ones are in Kafka, bad ones refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from tests.bad_events import GOOD, bad_events
from tests.functions.running import Function, Live
from tests.stand_ins import Broker, records, until

Start = Callable[..., Function]
TOPIC, KEY = "sales.orders", "a key of the partner that nobody guesses"
PARTNERS = {"partner": {"key": KEY, "topics": [TOPIC]}}


def event(number: int | str, **changes: Any) -> dict[str, Any]:
    return GOOD | {"event_id": f"order:{number}", "order_id": f"{number}"} | changes


def post(own: Function, events: Any, path: str = TOPIC, key: str = KEY) -> httpx.Response:
    body = events if isinstance(events, bytes) else json.dumps({"events": events}).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    return httpx.post(f"{own.url}/{path}", content=body, headers=headers, timeout=60)


@pytest.fixture
def own(start: Start, broker: Broker) -> Function:
    if TOPIC not in broker.admin.list_topics(timeout=10).topics:
        broker.admin.create_topics([NewTopic(TOPIC, 4, 1)])[TOPIC].result()
        broker.wait_for_leaders(TOPIC)
    return start("event_validation", **settings(broker.bootstrap))


def settings(bootstrap: str) -> dict[str, str]:
    return {
        "MADHATTER_KAFKA": json.dumps({"bootstrap.servers": bootstrap}),
        "MADHATTER_PARTNER_KEYS": json.dumps(PARTNERS),
    }


def in_kafka(broker: Broker, prefix: str) -> list[tuple[bytes | None, str]]:
    found = [
        (message.key(), json.loads(message.value() or b"")["order_id"]) for message in records(broker.bootstrap, TOPIC)
    ]
    return sorted(each for each in found if each[1].startswith(prefix))


def test_event_by_pubsub_is_in_kafka_under_the_contracts_key(live: Live, own: Function, broker: Broker) -> None:
    live.publish("events.partner", json.dumps(event("pub-1")).encode(), topic=TOPIC)
    live.publish("events.partner", json.dumps({"topic": TOPIC, "event": event("pub-2", customer_id=None)}).encode())
    until(lambda: len(own.lines) == 2, "both are taken")
    assert [line["status"] for line in own.lines] == [204, 204]
    assert in_kafka(broker, "pub-") == [(b"17850", "pub-1"), (b"pub-2", "pub-2")]
    assert own.answers()["answers"] == {"204": 2, "accepted": 2}


def test_bad_events_by_pubsub_are_refused_with_a_reason_and_stop_nothing(
    live: Live, own: Function, broker: Broker
) -> None:
    live.apply(attempts=5)
    bad = [(name, value, words) for name, value, words in bad_events() if value]
    for _, value, _ in bad:
        live.publish("events.partner", value, topic=TOPIC)
    live.publish("events.partner", json.dumps(event("behind-1")).encode(), topic=TOPIC)
    live.publish("events.partner", json.dumps(event("other-1")).encode(), topic="no.topic")
    live.publish("events.partner", b"x" * 9_990_000, topic=TOPIC)
    letters = live.gather(lambda: live.dead("event-validation"), len(bad) + 2, "all bad ones are dead letters")
    assert len(letters) == len(bad) + 2
    assert in_kafka(broker, "behind-") == [(b"17850", "behind-1")]
    told = {line["error"] for line in own.lines if "error" in line}
    for name, _, words in bad:
        assert any(words in error for error in told), name
    assert any("topic 'no.topic' is not one that partners send" in error for error in told)
    counts = own.answers()["answers"]
    # Five attempts each; a connection that was just being closed may have eaten one.
    assert 1 <= counts["413"] <= 5
    assert len(bad) + 1 <= counts["rejected"] <= 5 * (len(bad) + 1)


def test_batch_by_http_is_answered_event_by_event(own: Function, broker: Broker) -> None:
    assert post(own, [event("http-1"), event("http-2")]).json() == {"accepted": 2, "rejected": 0}
    next_year = event("http-3", event_ts="2099-01-01T00:00:00Z")
    answer = post(own, [event("http-4"), next_year, {"event_id": "x"}])
    assert answer.status_code == 207
    taken, ahead, empty = answer.json()["results"]
    assert taken == {"index": 0, "status": "accepted"}
    assert "event_ts" in ahead["reason"]
    assert empty["status"] == "rejected"
    assert [order for _, order in in_kafka(broker, "http-")] == ["http-1", "http-2", "http-4"]


def test_request_that_is_not_a_partners_is_refused_with_a_reason(own: Function) -> None:
    refused = [
        (post(own, [event(1)], key="guessed"), 401, "X-API-Key is missing or unknown"),
        (post(own, [event(1)], path="no.topic"), 404, "there is no topic 'no.topic'"),
        (post(own, [event(1)], path="iot.readings"), 403, "the key of partner is not for iot.readings"),
        (post(own, b'{"events": ['), 400, "the body is not"),
        (post(own, b"x" * 10_000_000), 413, "the body is over"),
        (post(own, [event(n) for n in range(1001)]), 413, "1001 events in one request"),
        (post(own, [event(1)], path=""), 401, "no bearer token"),
    ]
    for answer, status, words in refused:
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]


def test_events_are_sent_again_when_kafka_is_away(live: Live, start: Start) -> None:
    own = start("event_validation", **settings("127.0.0.1:1"))
    answer = post(own, [event("away-1")])
    assert answer.status_code == 503
    assert "Kafka does not take sales.orders" in answer.json()["error"]
    live.publish("events.partner", json.dumps(event("away-2")).encode(), topic=TOPIC)
    until(lambda: len(own.lines) == 2, "it is tried")
    assert own.lines[1]["status"] == 503
