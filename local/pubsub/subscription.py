"""A subscription at work: its backlog over the store, and whoever waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from google.pubsub_v1 import types

from local.pubsub.delivery import DEFAULT_ATTEMPTS, DEFAULT_BACKOFF_S, Backlog, Delivery
from local.pubsub.store import Store

DELETED_TOPIC = "_deleted-topic_"
MOST_HELD = 500  # messages of one reply
PubsubMessage = types.PubsubMessage.pb()
ReceivedMessage = types.ReceivedMessage.pb()
Forward = Callable[[str, Any], None]


class Subscription:
    """proto: as the API has it. forward: publishes a message to the dead letter topic."""

    def __init__(self, proto: Any, store: Store, forward: Forward) -> None:
        self.proto = proto
        self._store = store
        self._forward = forward
        self._waiting: set[asyncio.Event] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.backlog = Backlog(False, None, None, self._done, self._retry, self._give_up)
        self.configure()
        for message_id, attempt, body in store.deliveries(proto.name):
            self.backlog.add(Delivery(message_id, PubsubMessage.FromString(body), attempt))

    def configure(self) -> None:
        """Takes over what the API has changed in proto."""
        policy, letters = self.proto.retry_policy, self.proto.dead_letter_policy
        self.backlog.ordered = self.proto.enable_message_ordering
        self.backlog.backoff_s = None
        if self.proto.HasField("retry_policy"):
            least, most = (_seconds(one) for one in (policy.minimum_backoff, policy.maximum_backoff))
            self.backlog.backoff_s = (least or DEFAULT_BACKOFF_S[0], most or DEFAULT_BACKOFF_S[1])
        self.backlog.most_attempts = None
        if letters.dead_letter_topic:
            self.backlog.most_attempts = letters.max_delivery_attempts or DEFAULT_ATTEMPTS

    @property
    def deadline_s(self) -> float:
        return float(self.proto.ack_deadline_seconds)

    def add(self, message_id: int, message: Any) -> None:
        self.backlog.add(Delivery(message_id, message))
        self.wake()

    def take(self, most: int, deadline_s: float) -> list[Any]:
        """ReceivedMessages, theirs for so long."""
        taken = self.backlog.take(min(most, MOST_HELD), time.monotonic(), deadline_s)
        self._set_timer()
        return [self._received(one) for one in taken]

    def ack(self, ack_ids: list[str]) -> None:
        self.backlog.ack(ack_ids)
        self.wake()

    def nack(self, ack_id: str) -> None:
        self.backlog.nack(ack_id, time.monotonic())
        self.wake()

    def extend(self, ack_id: str, seconds: float) -> None:
        """0: to be delivered again now."""
        if seconds <= 0:
            self.nack(ack_id)
        else:
            self.backlog.extend(ack_id, time.monotonic() + seconds)
            self._set_timer()

    def listen(self) -> asyncio.Event:
        """An event that is set when there may be something new to take. Give it back to `leave`."""
        event = asyncio.Event()
        self._waiting.add(event)
        return event

    def leave(self, event: asyncio.Event) -> None:
        self._waiting.discard(event)

    def wake(self) -> None:
        """The backlog has changed."""
        for event in self._waiting:
            event.set()
        self._set_timer()

    def drop_old(self) -> int:
        """Forgets what is older than the subscription keeps; returns how many."""
        kept_s = _seconds(self.proto.message_retention_duration)
        return self.backlog.drop_older(time.time() - kept_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        """Deadlines and pauses end by the clock."""
        self.stop()
        due = self.backlog.next_change()
        if due is not None:
            delay_s = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.backlog.advance(time.monotonic())
        self.wake()

    def _received(self, delivery: Delivery) -> Any:
        received = ReceivedMessage(ack_id=delivery.ack_id)
        received.message.CopyFrom(delivery.message)
        if self.backlog.most_attempts is not None:
            received.delivery_attempt = delivery.attempt
        return received

    def _done(self, message_id: int) -> None:
        self._store.done(self.proto.name, message_id)

    def _retry(self, delivery: Delivery) -> None:
        self._store.attempt(self.proto.name, delivery.id, delivery.attempt)

    def _give_up(self, delivery: Delivery) -> None:
        letter = PubsubMessage()
        letter.CopyFrom(delivery.message)
        _, project, _, name = self.proto.name.split("/")
        published = delivery.message.publish_time.ToJsonString()
        letter.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = f"{delivery.attempt}"
        letter.attributes["CloudPubSubDeadLetterSourceSubscription"] = name
        letter.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] = project
        letter.attributes["CloudPubSubDeadLetterSourceTopicPublishTime"] = published
        self._forward(self.proto.dead_letter_policy.dead_letter_topic, letter)


def _seconds(duration: Any) -> float:
    return float(duration.seconds) + float(duration.nanos) / 1e9
