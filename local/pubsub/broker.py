"""Topics and subscriptions: what the API's methods do, without gRPC."""

from __future__ import annotations

from typing import Any

from google.pubsub_v1 import types

from local.pubsub.push import Pusher
from local.pubsub.refusal import exists, invalid, not_found, unimplemented
from local.pubsub.store import Store
from local.pubsub.subscription import DELETED_TOPIC, Subscription

# https://cloud.google.com/pubsub/quotas#resource_limits
MESSAGE_BYTES = 10 << 20
REQUEST_MESSAGES = 1000
ATTRIBUTES, KEY_BYTES, VALUE_BYTES = 100, 256, 1024
ACK_DEADLINE_S = (10, 600)
ATTEMPTS = (5, 100)
RETENTION_S = (600, 31 * 86400)
DEFAULT_RETENTION_S = 7 * 86400
Topic, SubscriptionProto = types.Topic.pb(), types.Subscription.pb()


class Broker:
    """All of one server. Raises Refusal for what the service would refuse."""

    def __init__(self, store: Store, pusher: Pusher) -> None:
        self._store = store
        self._pusher = pusher
        self.topics: dict[str, Any] = {}
        self.subscriptions: dict[str, Subscription] = {}
        for body in store.resources("topic"):
            topic = Topic.FromString(body)
            self.topics[topic.name] = topic
        for body in store.resources("subscription"):
            self._add(SubscriptionProto.FromString(body))

    def create_topic(self, topic: Any) -> Any:
        _check_name(topic.name, "topics")
        if topic.name in self.topics:
            raise exists(topic.name)
        self.topics[topic.name] = topic
        self._store.put("topic", topic.name, topic.SerializeToString())
        return topic

    def topic(self, name: str) -> Any:
        if name not in self.topics:
            raise not_found(name)
        return self.topics[name]

    def update_topic(self, changed: Any, mask: Any) -> Any:
        topic = self.topic(changed.name)
        _merge(mask, changed, topic)
        self._store.put("topic", topic.name, topic.SerializeToString())
        return topic

    def delete_topic(self, name: str) -> None:
        """Its subscriptions stay, with what they have."""
        del self.topics[self.topic(name).name]
        self._store.remove(name)
        for subscription in self.of_topic(name):
            subscription.proto.topic = DELETED_TOPIC
            self._store.put("subscription", subscription.proto.name, subscription.proto.SerializeToString())

    def publish(self, topic: str, messages: list[Any]) -> list[str]:
        """Returns the messages' ids; they are durable once the store has committed."""
        self.topic(topic)
        if not 1 <= len(messages) <= REQUEST_MESSAGES:
            raise invalid(f"a request has 1 to {REQUEST_MESSAGES} messages, this one {len(messages)}")
        for message in messages:
            _check_message(message)
        return self._add_messages(topic, messages)

    def _add_messages(self, topic: str, messages: list[Any]) -> list[str]:
        """Hands them to the topic's subscriptions; returns their ids."""
        subscriptions = self.of_topic(topic)
        names = [one.proto.name for one in subscriptions]
        ids = []
        for message in messages:
            number = self._store.last_id + 1
            message.message_id = f"{number}"
            message.publish_time.GetCurrentTime()
            self._store.add(number, message.SerializeToString(), names)
            for subscription in subscriptions:
                subscription.add(number, message)
            ids.append(message.message_id)
        return ids

    def create_subscription(self, proto: Any) -> Any:
        _check_name(proto.name, "subscriptions")
        if proto.name in self.subscriptions:
            raise exists(proto.name)
        self.topic(proto.topic)
        _check_subscription(proto)
        self._store.put("subscription", proto.name, proto.SerializeToString())
        return self._add(proto).proto

    def subscription(self, name: str) -> Subscription:
        if name not in self.subscriptions:
            raise not_found(name)
        return self.subscriptions[name]

    def update_subscription(self, changed: Any, mask: Any) -> Any:
        subscription = self.subscription(changed.name)
        proto = SubscriptionProto()
        proto.CopyFrom(subscription.proto)
        _merge(mask, changed, proto)
        _check_subscription(proto)
        subscription.proto.CopyFrom(proto)
        self._changed(subscription)
        return subscription.proto

    def modify_push(self, name: str, push_config: Any) -> None:
        """Without an endpoint it becomes a subscription to be pulled."""
        subscription = self.subscription(name)
        subscription.proto.push_config.CopyFrom(push_config)
        self._changed(subscription)

    def delete_subscription(self, name: str) -> None:
        subscription = self.subscription(name)
        self._pusher.stop(name)
        subscription.stop()
        del self.subscriptions[name]
        self._store.remove(name)

    def of_topic(self, topic: str) -> list[Subscription]:
        return [one for one in self.subscriptions.values() if one.proto.topic == topic]

    def drop_old(self) -> None:
        """Forgets messages that are older than their subscriptions keep."""
        for subscription in self.subscriptions.values():
            subscription.drop_old()

    def start(self) -> None:
        """Begins to push."""
        for subscription in self.subscriptions.values():
            self._pusher.follow(subscription)

    def _add(self, proto: Any) -> Subscription:
        subscription = Subscription(proto, self._store, self._forward)
        self.subscriptions[proto.name] = subscription
        if self._pusher.is_running:
            self._pusher.follow(subscription)
        return subscription

    def _changed(self, subscription: Subscription) -> None:
        self._store.put("subscription", subscription.proto.name, subscription.proto.SerializeToString())
        subscription.configure()
        self._pusher.follow(subscription)

    def _forward(self, topic: str, message: Any) -> None:
        """A dead letter. Of a topic that is gone the service keeps trying; here the message is lost, and said to be."""
        if topic in self.topics:
            message.ClearField("message_id")
            # Unchecked: the limits are for who publishes, a dead letter's own attributes come on top.
            self._add_messages(topic, [message])
        else:
            print(f"pubsub: dead letter topic {topic} does not exist: message {message.message_id} is dropped")


def _merge(mask: Any, changed: Any, target: Any) -> None:
    if not mask.paths:
        raise invalid("the update_mask must name at least one field")
    for path in mask.paths:  # as a whole: a merge would keep what the new value leaves out
        target.ClearField(path.split(".")[0])
    mask.MergeMessage(changed, target, True, True)


def _check_name(name: str, collection: str) -> None:
    parts = name.split("/")
    if len(parts) != 4 or (parts[0], parts[2]) != ("projects", collection) or not all(parts):
        raise invalid(f"Invalid resource name given (name={name}): projects/PROJECT/{collection}/NAME")


def _check_message(message: Any) -> None:
    if not message.data and not message.attributes:
        raise invalid("a message must have data or at least one attribute")
    if len(message.data) > MESSAGE_BYTES or message.ByteSize() > MESSAGE_BYTES + (1 << 20):
        raise invalid(f"a message has {len(message.data)} bytes of data, more than {MESSAGE_BYTES}")
    if len(message.attributes) > ATTRIBUTES:
        raise invalid(f"a message has {len(message.attributes)} attributes, more than {ATTRIBUTES}")
    for key, value in message.attributes.items():
        if not key or len(key.encode()) > KEY_BYTES or len(value.encode()) > VALUE_BYTES:
            raise invalid(f"attribute {key[:40]!r}: a key has 1 to {KEY_BYTES} bytes, a value up to {VALUE_BYTES}")
        if key.startswith("goog"):
            raise invalid(f"attribute {key[:40]!r}: keys that begin with goog are reserved")


def _check_subscription(proto: Any) -> None:
    """Fills in defaults. Raises Refusal."""
    for field, what in (
        ("filter", "filters"),
        ("enable_exactly_once_delivery", "exactly-once delivery"),
        ("retain_acked_messages", "retention of acknowledged messages"),
    ):
        if getattr(proto, field):
            raise unimplemented(what)
    for field in ("bigquery_config", "cloud_storage_config"):
        if proto.HasField(field):
            raise unimplemented("export subscriptions")
    proto.ack_deadline_seconds = proto.ack_deadline_seconds or ACK_DEADLINE_S[0]
    if not ACK_DEADLINE_S[0] <= proto.ack_deadline_seconds <= ACK_DEADLINE_S[1]:
        raise invalid(f"ack_deadline_seconds={proto.ack_deadline_seconds} is not from 10 to 600")
    proto.message_retention_duration.seconds = proto.message_retention_duration.seconds or DEFAULT_RETENTION_S
    if not RETENTION_S[0] <= proto.message_retention_duration.seconds <= RETENTION_S[1]:
        raise invalid("message_retention_duration is not from 10 minutes to 31 days")
    attempts = proto.dead_letter_policy.max_delivery_attempts
    if attempts and not ATTEMPTS[0] <= attempts <= ATTEMPTS[1]:
        raise invalid(f"max_delivery_attempts={attempts} is not from 5 to 100")
    endpoint = proto.push_config.push_endpoint
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise invalid(f"push_endpoint {endpoint!r} is no http or https address")
