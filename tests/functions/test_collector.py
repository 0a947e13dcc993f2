"""The collector as apps use it: its own process, a real broker, and both of them killed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from local.instance import ROOT
from local.kafka import broker as kafka_process
from local.ports import free_ports
from tests.functions.running import status_before_body
from tests.stand_ins import ENV, Broker, until

TOPIC = "sales.orders"
KEY = "a key of the shop that nobody guesses"
LATE_TOPIC = "web.interactions"  # the broker does not have it at first
SENDERS = {
    "shop": {"key": KEY, "topics": [TOPIC, LATE_TOPIC]},
    "app": {"key": "another-key-of-the-app", "topics": ["no.topic"]},
}
PAGE = "https://shop.example"


def event(number: int | str, **changes: Any) -> dict[str, Any]:
    """An order that the contract accepts."""
    line = {"line_no": 1, "product_id": "85123A", "description": None, "quantity": 6, "unit_price": 2.55}
    return {
        "event_id": f"order:{number}",
        "event_ts": "2026-11-01T08:26:00Z",
        "order_id": f"{number}",
        "order_type": "sale",
        "customer_id": "17850",
        "country": "United Kingdom",
        "channel": "web",
        "currency": "GBP",
        "lines": [line],
    } | changes


@dataclass
class Collector:
    """`functions-framework` with the collector, on a port and a spool of its own."""

    folder: Path
    bootstrap: str
    port: int
    settings: dict[str, str]

    @property
    def log_file(self) -> Path:
        return self.folder / "collector.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The log's entries of requests."""
        entries = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [entry for entry in entries if "status" in entry]

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {
            "MADHATTER_COLLECTOR_KAFKA": json.dumps({"bootstrap.servers": self.bootstrap}),
            "MADHATTER_COLLECTOR_KEYS": json.dumps(SENDERS),
            "MADHATTER_COLLECTOR_SPOOL": str(self.folder / "spool"),
            "MADHATTER_COLLECTOR_ORIGINS": PAGE,
            "MADHATTER_COLLECTOR_WAIT_S": "20",
        }
        function = "include/functions/collector/main.py"
        options = ["--target", "collect", "--source", function, "--host", "127.0.0.1", "--port", f"{self.port}"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "functions_framework", *options],
                cwd=ROOT,
                env=environment | self.settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        until(self.is_up, "the collector answers")

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def post(self, content: bytes | list[dict[str, Any]], path: str = TOPIC, **headers: str | bytes) -> httpx.Response:
        body = json.dumps({"events": content}).encode() if isinstance(content, list) else content
        given: Any = {"X-API-Key": KEY, "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"http://127.0.0.1:{self.port}/{path}", content=body, headers=given, timeout=60)

    def sends_directly(self) -> bool:
        """Whether an event goes to Kafka and not to the spool."""
        return bool(self.post([event(f"direct-{uuid.uuid4()}")]).json()["spooled"] == 0)

    def spooled(self) -> int:
        health = httpx.get(f"http://127.0.0.1:{self.port}/health").json()
        return int(health["spooled"].get(TOPIC, 0))


def run_again(broker: Broker) -> None:
    """The broker of before, on the same port with the same data."""
    broker.run(kafka_process.command(ENV, broker.folder / "server.properties", broker.folder / "data"))
    until(lambda: broker.is_ready(lambda: kafka_process.answers(broker.port)), "the broker answers again")


def limit(broker: Broker, size: int) -> None:
    """Sets the largest batch that the topic takes, in bytes."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
    broker.admin.incremental_alter_configs([resource])[resource].result()


def messages(broker: Broker, prefix: str) -> list[tuple[bytes, bytes]]:
    """(key, value) of all messages whose event_id starts with `order:<prefix>`, in each partition's order."""
    found = [(message.key() or b"", message.value() or b"") for message in broker.read(TOPIC)]
    return [(key, value) for key, value in found if b'"order:' + prefix.encode() in value]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    started = Broker(tmp_path_factory.mktemp("kafka"))
    started.start()
    topic = NewTopic(TOPIC, 4, 1, config={"message.timestamp.type": "LogAppendTime"})
    started.admin.create_topics([topic])[TOPIC].result()
    yield started
    started.end()


@pytest.fixture
def start(broker: Broker, tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Starts a collector; settings without their MADHATTER_COLLECTOR_."""
    started: list[Collector] = []

    def start_one(**settings: str) -> Collector:
        named = {f"MADHATTER_COLLECTOR_{name}": value for name, value in settings.items()}
        started.append(Collector(tmp_path, broker.bootstrap, free_ports(1)[0], named))
        started[-1].start()
        started[-1].wait()
        return started[-1]

    yield start_one
    for one in started:
        if one.process.poll() is None:
            one.kill()


@pytest.fixture(scope="module")
def collector(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One for all tests that kill nothing."""
    started = Collector(tmp_path_factory.mktemp("collector"), broker.bootstrap, free_ports(1)[0], {})
    started.start()
    started.wait()
    yield started
    started.kill()


def test_accepted_events_are_in_kafka_byte_for_byte_under_the_contracts_key(
    collector: Collector, broker: Broker
) -> None:
    guest = json.dumps(event("bytes-2", customer_id=None), indent=2).encode()
    known = json.dumps(event("bytes-1", country="Österreich"), ensure_ascii=False).replace("2.55", "2.550").encode()
    answer = collector.post(b'{"events":[' + known + b" ,\n" + guest + b"]}")
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "rejected": 0, "spooled": 0})
    assert sorted(messages(broker, "bytes-")) == sorted([(b"17850", known), (b"bytes-2", guest)])


def test_compressed_batch_is_accepted(collector: Collector, broker: Broker) -> None:
    body = gzip.compress(json.dumps({"events": [event(f"gzip-{n}") for n in range(100)]}).encode())
    assert collector.post(body, Content_Encoding="gzip").status_code == 202
    assert len(messages(broker, "gzip-")) == 100


def test_rejected_events_are_answered_with_the_pipelines_reasons_and_not_sent(
    collector: Collector, broker: Broker
) -> None:
    ahead = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    bad = [event("bad-1", channel="phone"), event("bad-2", event_ts=ahead), event("bad-3", lines=[])]
    bad[2].pop("order_id")
    raw = json.dumps({"events": [event("bad-0"), *bad]}).encode()[:-2] + b', {"event_id": "order:bad-4\xff"}]}'
    answer = collector.post(raw)
    results = answer.json()["results"]
    assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (207, 1, 4)
    assert [result["status"] for result in results] == ["accepted", *["rejected"] * 4]
    assert results[1]["reason"] == "Invalid enum value 'phone' at `channel`"
    assert "is more than 300 s ahead of its arrival" in results[2]["reason"]
    assert results[4]["reason"] == "not UTF-8: byte 25 is 0xff"
    assert [json.loads(value)["order_id"] for _, value in messages(broker, "bad-")] == ["bad-0"]


def test_wrong_or_missing_key_is_turned_away_and_no_key_is_logged(collector: Collector, broker: Broker) -> None:
    for key in ("", "wrong", "ключ".encode(), KEY + "x"):
        answer = collector.post([event("key-1")], X_API_Key=key)
        assert answer.status_code == 401
    assert messages(broker, "key-") == []
    assert KEY not in collector.log


def test_key_is_for_its_own_topics_only(collector: Collector) -> None:
    assert collector.post([event("app-1")], X_API_Key="another-key-of-the-app").status_code == 403


def test_unknown_topic_is_told_with_the_known_ones(collector: Collector) -> None:
    answer = collector.post([event("topic-1")], path="sales.order")
    assert answer.status_code == 404
    assert TOPIC in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b'{"events": [{]}', {}, 400, "malformed"),
        (b'{"events": []}', {}, 400, "no events"),
        (b'{"event": []}', {}, 400, "missing required field `events`|unknown field"),
        (b"", {}, 400, "truncated"),
        (b"\xff", {}, 400, "malformed"),
        (b"[" * 200_000, {}, 400, "got `array`"),
        (b'{"events": ' + b"[" * 200_000, {}, 400, "is not"),
        (b"not gzip", {"Content_Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(b'{"events": []}', mtime=0)[:-9], {"Content_Encoding": "gzip"}, 400, "ends too early"),
        (b'{"events": [1]}', {"Content_Encoding": "br"}, 415, "br is not understood"),
        (b'{"events": [1]}', {"Content_Type": "text/plain"}, 415, "send application/json"),
        (b'{"events": ["' + b"x" * 900_000 + b'"]}', {}, 413, "over 900000 bytes"),
        (gzip.compress(b" " * 50_000_000, mtime=0), {"Content_Encoding": "gzip"}, 413, "over 900000 bytes"),
        (b'{"events": [' + b"1," * 1000 + b"1]}", {}, 413, "1001 events"),
    ],
)
def test_request_that_is_no_batch_is_refused_whole(
    collector: Collector, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    answer = collector.post(body, **headers)
    assert answer.status_code == status
    assert any(word in answer.json()["error"] for word in words.split("|")), answer.text


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (f"POST /{TOPIC}", {}, 401),
        ("POST /no.topic", {"X_API_Key": KEY}, 404),
        (f"POST /{TOPIC}", {"X_API_Key": "another-key-of-the-app"}, 403),
        (f"POST /{TOPIC}", {"X_API_Key": KEY, "Content_Type": "text/plain"}, 415),
        (f"POST /{TOPIC}", {"Origin": "https://evil.example"}, 403),
        (f"PUT /{TOPIC}", {}, 405),
        (f"OPTIONS /{TOPIC}", {"Origin": PAGE}, 204),
        ("GET /health", {}, 200),
    ],
)
def test_body_that_is_not_taken_is_left_unread(
    collector: Collector, request_line: str, headers: dict[str, str], status: int
) -> None:
    assert status_before_body(collector.port, request_line, **headers) == status


def test_sender_over_its_rate_is_told_when_to_come_back(start: Callable[..., Collector], broker: Broker) -> None:
    slow = start(EVENTS_PER_S="1")
    assert slow.post([event(f"rate-{n}") for n in range(1000)]).status_code == 202
    answer = slow.post([event(f"rate-more-{n}") for n in range(1000)])
    assert (answer.status_code, int(answer.headers["Retry-After"]) >= 1) == (429, True)
    assert len(messages(broker, "rate-")) == 1000


def test_pages_of_listed_origins_may_send_and_others_not(collector: Collector) -> None:
    url = f"http://127.0.0.1:{collector.port}/{TOPIC}"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    allowed = httpx.options(url, headers={"Origin": PAGE, **asked})
    assert allowed.status_code == 204
    assert allowed.headers["Access-Control-Allow-Origin"] == PAGE
    assert "X-API-Key" in allowed.headers["Access-Control-Allow-Headers"]
    assert collector.post([event("origin-1")], Origin=PAGE).headers["Access-Control-Allow-Origin"] == PAGE
    other = httpx.options(url, headers={"Origin": "https://evil.example", **asked})
    assert other.status_code == 403
    assert "Access-Control-Allow-Origin" not in other.headers
    assert collector.post([event("origin-2")], Origin="https://evil.example").status_code == 403


def test_log_says_of_each_request_who_sent_what_and_what_came_of_it(collector: Collector) -> None:
    collector.post([event("log-1"), event("log-2", currency="EUR")])
    until(lambda: any("reasons" in entry for entry in collector.requests), "the log has the request")
    entry = [entry for entry in collector.requests if entry.get("reasons")][-1]
    expected = {"sender": "shop", "topic": TOPIC, "accepted": 1, "rejected": 1, "spooled": 0, "status": 207}
    assert {name: entry[name] for name in expected} == expected
    assert entry["reasons"] == {"Invalid enum value 'EUR' at `currency`": 1}


def test_events_wait_in_the_spool_while_kafka_is_killed_and_arrive_once_in_order(
    start: Callable[..., Collector], broker: Broker
) -> None:
    own = start(WAIT_S="0.5")
    until(own.sends_directly, "Kafka takes events")
    broker.end()
    answers = [own.post([event(f"away-{10 * n + m}") for m in range(10)]) for n in range(1, 4)]
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.json()["spooled"] for answer in answers] == [10, 10, 10]
    assert own.spooled() == 30
    run_again(broker)
    until(lambda: own.spooled() == 0, "the spool is empty again")
    found = [json.loads(value)["order_id"] for _, value in messages(broker, "away-")]
    assert found == [f"away-{number}" for number in range(10, 40)]
    until(own.sends_directly, "events go to Kafka again")


def test_killed_collector_sends_its_spool_after_a_restart_without_a_request(
    start: Callable[..., Collector], broker: Broker
) -> None:
    own = start(WAIT_S="0.5")
    broker.end()
    assert own.post([event(f"kill-{number}") for number in range(200)]).json()["spooled"] == 200
    own.kill()
    run_again(broker)
    own.start()
    until(lambda: "is empty again" in own.log, "the spool is sent")
    found = [json.loads(value)["order_id"] for _, value in messages(broker, "kill-")]
    assert found == [f"kill-{number}" for number in range(200)]


def test_second_collector_on_the_same_folder_takes_over_what_a_killed_one_left(
    start: Callable[..., Collector], broker: Broker
) -> None:
    first, second = start(WAIT_S="0.5"), start(WAIT_S="0.5")
    broker.end()
    assert second.post([event("left-1")]).json()["spooled"] == 1
    second.kill()
    first.kill()
    run_again(broker)
    start()
    until(lambda: messages(broker, "left-"), "the other's event is delivered")


def test_full_spool_turns_requests_away_and_keeps_what_it_has(start: Callable[..., Collector], broker: Broker) -> None:
    own = start(WAIT_S="0.5", SPOOL_BYTES="65536")
    broker.end()
    kept, answer = 0, own.post([event("full-0")])
    while answer.status_code == 202:
        kept += answer.json()["accepted"]
        answer = own.post([event(f"full-{kept + n}") for n in range(50)])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert own.spooled() == kept > 50
    run_again(broker)
    until(lambda: own.spooled() == 0, "the spool is empty again")
    assert len(messages(broker, "full-")) == kept
    assert own.post([event("full-x")]).status_code == 202


def test_event_that_kafka_will_never_take_is_rejected_or_set_aside_and_holds_up_no_other(
    start: Callable[..., Collector], broker: Broker
) -> None:
    own = start(WAIT_S="5")
    line = event(0)["lines"][0]
    large = event("large", lines=[line | {"line_no": n + 1, "product_id": uuid.uuid4().hex} for n in range(99)])
    limit(broker, 2000)
    try:
        answer = own.post([large])
        assert answer.status_code == 207, answer.text
        assert "Kafka refuses it" in answer.json()["results"][0]["reason"]
        broker.end()
        assert own.post([event("large-0")]).json()["spooled"] == 1
        assert own.post([large]).json()["spooled"] == 1
        run_again(broker)
        until(lambda: own.spooled() == 0, "the spool is empty again")
        assert own.post([event("large-2")]).json() == {"accepted": 1, "rejected": 0, "spooled": 0}
    finally:
        limit(broker, 1_048_588)
    assert "set aside" in own.log
    assert sorted(json.loads(value)["order_id"] for _, value in messages(broker, "large-")) == ["large-0", "large-2"]


def test_events_of_a_topic_that_does_not_exist_yet_wait_and_hold_up_no_other(
    start: Callable[..., Collector], broker: Broker
) -> None:
    own = start(WAIT_S="0.5")
    view = {
        "event_id": "web:1",
        "event_ts": "2026-11-01T08:26:00Z",
        "visitor_id": "v-1",
        "session_id": "s-1",
        "channel": "web",
        "interaction_type": "view",
        "page": "home",
        "device": "phone",
        "country": "Norway",
    }
    assert own.post([view], path=LATE_TOPIC).json() == {"accepted": 1, "rejected": 0, "spooled": 1}
    until(own.sends_directly, "events of other topics go to Kafka")
    broker.admin.create_topics([NewTopic(LATE_TOPIC, 1, 1)])[LATE_TOPIC].result()
    until(lambda: f"the spool of {LATE_TOPIC} is empty again: 1 events delivered" in own.log, "it is delivered")


def test_collector_ends_when_it_is_asked_to(start: Callable[..., Collector]) -> None:
    own = start()
    own.process.terminate()
    assert own.process.wait(60) == 0


def test_missing_setting_ends_the_start_with_its_name(broker: Broker, tmp_path: Path) -> None:
    unset = Collector(
        tmp_path, broker.bootstrap, free_ports(1)[0], {"MADHATTER_COLLECTOR_KEYS": '{"shop": {"key": 1}}'}
    )
    unset.start()
    assert unset.process.wait(60) != 0
    assert "MADHATTER_COLLECTOR_KEYS is not JSON such as" in unset.log
