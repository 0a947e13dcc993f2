"""Pub/Sub as its documentation says, asked with Google's own client: what the stand-in does, the service does.

Quotes are from https://cloud.google.com/pubsub/docs.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import TimeoutError as Waited
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.auth.transport.requests import Request
from google.cloud import pubsub_v1  # type: ignore[attr-defined]
from google.oauth2 import id_token
from google.protobuf import duration_pb2, field_mask_pb2
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from local.instance import ROOT
from local.ports import free_ports
from tests.stand_ins import PubSub, until

PROJECT = "projects/madhatter"
NUMBERS = count(1)


@dataclass
class Client:
    """The generated clients, which send what they are told and nothing else."""

    channel: grpc.Channel
    topics: PublisherClient = field(init=False)
    subscriptions: SubscriberClient = field(init=False)

    def __post_init__(self) -> None:
        self.topics = PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriptions = SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))

    def topic(self) -> str:
        name = f"{PROJECT}/topics/t{next(NUMBERS)}"
        self.topics.create_topic(name=name)
        return name

    def subscription(self, topic: str, **settings: Any) -> str:
        name = f"{PROJECT}/subscriptions/s{next(NUMBERS)}"
        self.subscriptions.create_subscription({"name": name, "topic": topic, **settings})
        return name

    def publish(self, topic: str, *texts: str, key: str = "") -> list[str]:
        messages = [types.PubsubMessage(data=text.encode(), ordering_key=key) for text in texts]
        return list(self.topics.publish(topic=topic, messages=messages).message_ids)

    def pull(self, subscription: str, most: int = 100, *, now: bool = False) -> list[Any]:
        """now: what is there, without waiting."""
        request = {"subscription": subscription, "max_messages": most, "return_immediately": now}
        return list(self.subscriptions.pull(request, timeout=10).received_messages)

    def texts(self, subscription: str, **more: Any) -> list[str]:
        return [one.message.data.decode() for one in self.pull(subscription, **more)]

    def ack(self, subscription: str, *received: Any) -> None:
        self.subscriptions.acknowledge(subscription=subscription, ack_ids=[one.ack_id for one in received])

    def extend(self, subscription: str, seconds: int, *received: Any) -> None:
        self.subscriptions.modify_ack_deadline(
            subscription=subscription, ack_ids=[one.ack_id for one in received], ack_deadline_seconds=seconds
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSub]:
    own = PubSub(tmp_path_factory.mktemp("pubsub"))
    own.start()
    yield own
    own.end()


@pytest.fixture
def client(server: PubSub) -> Iterator[Client]:
    with grpc.insecure_channel(server.address) as channel:
        yield Client(channel)


def test_a_subscription_gets_what_is_published_after_it_was_created(client: Client) -> None:
    """ "A subscription receives only messages published to its topic after the subscription is created"."""
    topic = client.topic()
    client.publish(topic, "before")
    first, second = client.subscription(topic), client.subscription(topic)
    ids = client.publish(topic, "a", "b")
    for subscription in (first, second):
        received = client.pull(subscription)
        assert [one.message.data for one in received] == [b"a", b"b"]
        assert [one.message.message_id for one in received] == ids
        assert all(one.message.publish_time is not None for one in received)


def test_acknowledged_message_is_not_delivered_again_and_another_is_after_its_deadline(client: Client) -> None:
    topic = client.topic()
    subscription = client.subscription(topic)
    client.publish(topic, "done", "late")
    done, late = client.pull(subscription)
    client.ack(subscription, done)
    client.extend(subscription, 1, late)
    assert client.texts(subscription, now=True) == []
    (again,) = client.pull(subscription)
    assert again.message == late.message
    assert again.ack_id != late.ack_id


def test_deadline_of_zero_makes_a_message_available_at_once(client: Client) -> None:
    """ "Specifying zero might immediately make the message available for delivery to another subscriber"."""
    topic = client.topic()
    subscription = client.subscription(topic)
    client.publish(topic, "a")
    client.extend(subscription, 0, *client.pull(subscription))
    assert client.texts(subscription, now=True) == ["a"]


def test_pull_of_an_empty_subscription_waits_for_a_message(client: Client) -> None:
    topic = client.topic()
    subscription = client.subscription(topic)
    found: list[str] = []
    waiting = threading.Thread(target=lambda: found.extend(client.texts(subscription)))
    waiting.start()
    client.publish(topic, "a")
    waiting.join(timeout=20)
    assert found == ["a"]


def test_messages_of_one_ordering_key_come_one_after_the_other(client: Client) -> None:
    """ "...the subscriber client receives messages for the same ordering key in the order they were published"; one
    that is delivered again comes before those after it."""
    topic = client.topic()
    subscription = client.subscription(topic, enable_message_ordering=True)
    client.publish(topic, "a1", "a2", key="a")
    client.publish(topic, "b1", key="b")
    first = client.pull(subscription)
    assert sorted(one.message.data.decode() for one in first) == ["a1", "b1"]
    a1 = next(one for one in first if one.message.data == b"a1")
    client.extend(subscription, 0, a1)
    assert client.texts(subscription, now=True) == ["a1"]
    assert client.texts(subscription, now=True) == []


def test_ordered_message_follows_once_the_one_before_is_acknowledged(client: Client) -> None:
    topic = client.topic()
    subscription = client.subscription(topic, enable_message_ordering=True)
    client.publish(topic, "1", "2", "3", key="a")
    got = []
    for _ in range(3):
        (one,) = client.pull(subscription)
        got.append(one.message.data)
        client.ack(subscription, one)
    assert got == [b"1", b"2", b"3"]


def test_refused_message_waits_for_its_backoff(client: Client) -> None:
    """ "...the minimum delay between consecutive deliveries of a given message"."""
    topic = client.topic()
    seconds = duration_pb2.Duration(seconds=1)
    subscription = client.subscription(topic, retry_policy={"minimum_backoff": seconds, "maximum_backoff": seconds})
    client.publish(topic, "a")
    client.extend(subscription, 0, *client.pull(subscription))
    assert client.texts(subscription, now=True) == []
    assert client.texts(subscription) == ["a"]


def test_message_is_forwarded_to_the_dead_letter_topic_after_its_attempts(client: Client) -> None:
    """ "Pub/Sub forwards undeliverable messages to the dead-letter topic", with the source in its attributes."""
    topic, letters = client.topic(), client.topic()
    policy = {"dead_letter_topic": letters, "max_delivery_attempts": 5}
    subscription, dead = client.subscription(topic, dead_letter_policy=policy), client.subscription(letters)
    client.publish(topic, "poison", "good")
    attempts = []
    for _ in range(5):
        poison = next(one for one in client.pull(subscription) if one.message.data == b"poison")
        attempts.append(poison.delivery_attempt)
        client.extend(subscription, 0, poison)
    assert attempts == [1, 2, 3, 4, 5]
    (letter,) = client.pull(dead)
    assert letter.message.data == b"poison"
    found = dict(letter.message.attributes)
    assert found.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    assert found == {
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": subscription.rsplit("/", 1)[1],
        "CloudPubSubDeadLetterSourceSubscriptionProject": "madhatter",
    }
    assert "poison" not in client.texts(subscription, now=True)


def test_names_that_do_not_exist_or_exist_already_are_refused(client: Client) -> None:
    topic = client.topic()
    with pytest.raises(exceptions.AlreadyExists):
        client.topics.create_topic(name=topic)
    nowhere = f"{PROJECT}/topics/nowhere"
    for call in (
        lambda: client.publish(nowhere, "a"),
        lambda: client.subscription(nowhere),
        lambda: client.topics.get_topic(topic=nowhere),
        lambda: client.pull(f"{PROJECT}/subscriptions/nowhere"),
    ):
        with pytest.raises(exceptions.NotFound):
            call()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({}, "data or at least one attribute"),
        ({"data": b"x" * (10 * 1024 * 1024 + 1)}, "more than 10485760"),
        ({"data": b"a", "attributes": {"k" * 257: "v"}}, "a key has 1 to 256 bytes"),
        ({"data": b"a", "attributes": {"k": "v" * 1025}}, "a value up to 1024"),
        ({"data": b"a", "attributes": {"googclient": "v"}}, "reserved"),
    ],
    ids=["empty", "11 MB", "long key", "long value", "reserved key"],
)
def test_message_beyond_the_limits_is_refused_whole(client: Client, message: dict[str, Any], words: str) -> None:
    topic = client.topic()
    subscription = client.subscription(topic)
    with pytest.raises(exceptions.InvalidArgument, match=words):
        client.topics.publish(topic=topic, messages=[types.PubsubMessage(data=b"good"), types.PubsubMessage(message)])
    assert client.texts(subscription, now=True) == []


@pytest.mark.parametrize(
    "setting",
    [{"filter": 'attributes.a = "b"'}, {"enable_exactly_once_delivery": True}, {"retain_acked_messages": True}],
    ids=lambda setting: next(iter(setting)),
)
def test_what_the_stand_in_does_not_have_it_refuses(client: Client, setting: dict[str, Any]) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        client.subscription(client.topic(), **setting)


def test_deleted_topic_leaves_its_subscriptions_with_what_they_have(client: Client) -> None:
    """ "After a topic is deleted ... existing subscriptions to this topic are not deleted, but their topic field is set
    to _deleted-topic_"."""
    topic = client.topic()
    subscription = client.subscription(topic)
    client.publish(topic, "a")
    client.topics.delete_topic(topic=topic)
    assert client.subscriptions.get_subscription(subscription=subscription).topic == "_deleted-topic_"
    assert client.texts(subscription) == ["a"]


def test_topics_and_subscriptions_are_listed_by_project(client: Client) -> None:
    topic = client.topic()
    subscription = client.subscription(topic)
    assert topic in [one.name for one in client.topics.list_topics(project=PROJECT)]
    assert subscription in [one.name for one in client.subscriptions.list_subscriptions(project=PROJECT)]
    assert list(client.topics.list_topic_subscriptions(topic=topic)) == [subscription]
    assert list(client.topics.list_topics(project="projects/other")) == []


def test_settings_are_changed_by_their_mask(client: Client) -> None:
    topic = client.topic()
    subscription = client.subscription(topic, ack_deadline_seconds=20)
    changed = types.Subscription(name=subscription, ack_deadline_seconds=60, labels={"a": "b"})
    mask = field_mask_pb2.FieldMask(paths=["ack_deadline_seconds"])
    client.subscriptions.update_subscription(subscription=changed, update_mask=mask)
    found = client.subscriptions.get_subscription(subscription=subscription)
    assert (found.ack_deadline_seconds, dict(found.labels)) == (60, {})


def test_the_librarys_publisher_and_subscriber_pass_everything_once(
    server: PubSub, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    topic = client.topic()
    subscription = client.subscription(topic, enable_message_ordering=True)
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher = pubsub_v1.PublisherClient(publisher_options=options)
    sent = [publisher.publish(topic, f"{number}".encode(), ordering_key=f"{number % 7}") for number in range(2000)]
    for future in sent:
        future.result(timeout=30)
    got: dict[str, list[int]] = {}
    all_there = threading.Event()

    def take(message: Any) -> None:
        got.setdefault(message.ordering_key, []).append(int(message.data))
        message.ack()
        if sum(map(len, got.values())) >= 2000:
            all_there.set()

    subscriber = pubsub_v1.SubscriberClient()
    pulling = subscriber.subscribe(subscription, take)
    try:
        assert all_there.wait(60)
    finally:
        pulling.cancel()
        with pytest.raises(Waited):
            pulling.result(timeout=0)
        subscriber.close()
    assert got == {f"{key}": list(range(key, 2000, 7)) for key in range(7)}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "end"])
def test_what_was_published_and_not_acknowledged_outlives_the_server(tmp_path: Path, how: signal.Signals) -> None:
    server = PubSub(tmp_path)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        client = Client(channel)
        topic = client.topic()
        subscription = client.subscription(topic)
        client.publish(topic, *(f"{number}" for number in range(100)))
        received = client.pull(subscription)
        client.ack(subscription, *received[:40])
        assert server.started is not None
        server.started.send_signal(how)
        server.started.wait()
    server.start()
    try:
        with grpc.insecure_channel(server.address) as channel:
            client = Client(channel)
            assert client.texts(subscription) == [f"{number}" for number in range(40, 100)]
            (number,) = client.publish(topic, "new")
            assert int(number) == 101
    finally:
        server.end()


def test_second_server_on_the_same_state_is_refused(server: PubSub) -> None:
    ports = [f"{port}" for port in free_ports(2)]
    command = [sys.executable, "-m", "local.pubsub", "--port", ports[0], "--http-port", ports[1]]
    done = subprocess.run(
        [*command, "--state", str(server.folder / "state")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "is in use by another server" in done.stderr


@dataclass
class Endpoint:
    """An HTTP server that answers push requests with `codes` in turn, the last one for ever."""

    codes: list[int]
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def start(self) -> ThreadingHTTPServer:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((dict(self.headers), body))
                self.send_response(endpoint.codes.pop(0) if len(endpoint.codes) > 1 else endpoint.codes[0])
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@pytest.fixture
def endpoint() -> Iterator[tuple[Endpoint, str]]:
    own = Endpoint([204])
    server = own.start()
    yield own, f"http://127.0.0.1:{server.server_port}/push"
    server.shutdown()
    server.server_close()


def test_push_request_has_the_message_and_a_signed_token(
    server: PubSub, client: Client, endpoint: tuple[Endpoint, str]
) -> None:
    own, url = endpoint
    topic = client.topic()
    account = "pusher@madhatter.iam.gserviceaccount.com"
    config = {"push_endpoint": url, "oidc_token": {"service_account_email": account, "audience": "shop"}}
    subscription = client.subscription(topic, push_config=config)
    sent = types.PubsubMessage(data=b"text", attributes={"kind": "fraud"}, ordering_key="a")
    (message_id,) = client.topics.publish(topic=topic, messages=[sent]).message_ids
    until(lambda: own.requests, "the message is pushed")
    headers, body = own.requests[0]
    published = body["message"].pop("publishTime")
    assert body["message"].pop("publish_time") == published
    assert body == {
        "subscription": subscription,
        "message": {
            "data": "dGV4dA==",
            "attributes": {"kind": "fraud"},
            "messageId": message_id,
            "message_id": message_id,
            "orderingKey": "a",
        },
    }
    scheme, token = headers["Authorization"].split()
    assert scheme == "Bearer"
    claims = id_token.verify_token(token, Request(), audience="shop", certs_url=server.certs)
    assert (claims["email"], claims["iss"]) == (account, "https://accounts.google.com")


def test_push_that_is_not_acknowledged_is_tried_again_and_given_up_in_the_end(
    client: Client, endpoint: tuple[Endpoint, str]
) -> None:
    own, url = endpoint
    own.codes[:] = [500]
    topic, letters = client.topic(), client.topic()
    dead = client.subscription(letters)
    backoff = duration_pb2.Duration()
    backoff.FromTimedelta(timedelta(milliseconds=20))
    client.subscription(
        topic,
        push_config={"push_endpoint": url},
        retry_policy={"minimum_backoff": backoff, "maximum_backoff": backoff},
        dead_letter_policy={"dead_letter_topic": letters, "max_delivery_attempts": 5},
    )
    client.publish(topic, "poison")
    assert client.texts(dead) == ["poison"]
    assert [body["deliveryAttempt"] for _, body in own.requests] == [1, 2, 3, 4, 5]


def test_message_with_as_many_attributes_as_it_may_have_becomes_a_dead_letter_and_ends_nothing(
    client: Client, endpoint: tuple[Endpoint, str]
) -> None:
    """The limit is for who publishes: the dead letter has four attributes more."""
    own, url = endpoint
    own.codes[:] = [500] * 5 + [204]
    topic, letters = client.topic(), client.topic()
    dead = client.subscription(letters)
    policy = {"dead_letter_topic": letters, "max_delivery_attempts": 5}
    client.subscription(topic, push_config={"push_endpoint": url}, dead_letter_policy=policy)
    full = types.PubsubMessage(data=b"full", attributes={f"{number}": "v" for number in range(100)})
    client.topics.publish(topic=topic, messages=[full])
    (letter,) = client.pull(dead)
    assert (letter.message.data, len(letter.message.attributes)) == (b"full", 104)
    client.publish(topic, "next")
    until(lambda: len(own.requests) == 6, "the message behind it is pushed")


def test_delivery_that_fails_in_itself_ends_no_other(server: PubSub, client: Client) -> None:
    """A host's name has 63 letters between dots at most. The stand-in finds out when it asks for the address."""
    topic = client.topic()
    client.subscription(topic, push_config={"push_endpoint": f"http://{'x' * 64}.invalid/"})
    before = server.log.read_text().count(words := "was not delivered: UnicodeError")
    client.publish(topic, "a")
    until(lambda: server.log.read_text().count(words) == before + 1, "the first is told in the log")
    client.publish(topic, "b")
    until(lambda: server.log.read_text().count(words) == before + 2, "so is the second")


def test_push_to_an_endpoint_that_is_not_there_is_delivered_when_it_is(
    client: Client, endpoint: tuple[Endpoint, str]
) -> None:
    own, url = endpoint
    (port,) = free_ports(1)
    topic = client.topic()
    subscription = client.subscription(topic, push_config={"push_endpoint": f"http://127.0.0.1:{port}/"})
    client.publish(topic, "a")
    client.subscriptions.modify_push_config(subscription=subscription, push_config=types.PushConfig(push_endpoint=url))
    until(lambda: own.requests, "the message is pushed to where it is to go now")
    client.subscriptions.modify_push_config(subscription=subscription, push_config=types.PushConfig())
    client.publish(topic, "b")
    assert client.texts(subscription) == ["b"]
