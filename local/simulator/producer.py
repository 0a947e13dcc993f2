"""Opens a producer for a source of events, after the checks before the first message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from include.producing import BULK, settings


class BrokerUnreachable(ConnectionError):
    """No broker answers at the bootstrap address."""


class TopicUnfit(RuntimeError):
    """The topic is missing, or does not stamp messages with their arrival."""


class NotDelivered(RuntimeError):
    """The broker did not take some of the messages."""


def check_topic(bootstrap: str, topic: str, timeout_s: float = 10) -> int:
    """The topic's number of partitions. Raises BrokerUnreachable or TopicUnfit, with what to do, unless it exists and
    has LogAppendTime."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    try:
        found = admin.list_topics(topic, timeout=timeout_s).topics[topic]
        if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicUnfit(f"the broker at {bootstrap} has no topic {topic}: create the topics first, `make up` does")
        if found.error is not None:
            raise KafkaException(found.error)
        resource = ConfigResource(ResourceType.TOPIC, topic)
        config = admin.describe_configs([resource], request_timeout=timeout_s)[resource].result()
    except KafkaException as e:
        raise BrokerUnreachable(
            f"no Kafka broker serves {topic} at {bootstrap} ({e.args[0].str()}): "
            "see `make status` and `make logs S=kafka`"
        ) from e
    stamp = config["message.timestamp.type"].value
    if stamp != "LogAppendTime":
        raise TopicUnfit(
            f"topic {topic} at {bootstrap} has message.timestamp.type={stamp}: slices are cut by arrival and need "
            "LogAppendTime; set it as the contract says, `make up` does"
        )
    return len(found.partitions)


def open_producer(bootstrap: str, own: Mapping[str, Any]) -> Producer:
    """A producer with the platform's settings (include/producing.py) and the caller's own, in librdkafka's names."""
    return Producer(settings({"bootstrap.servers": bootstrap}, own))


def deliver(bootstrap: str, topic: str, messages: Iterable[tuple[bytes, bytes]]) -> dict[int, int]:
    """Sends (key, value) pairs, those of one partition in their order; returns {partition: events} once the broker has
    them all.

    Raises BrokerUnreachable, TopicUnfit, NotDelivered, and KeyboardInterrupt, which confluent_kafka may hide.
    """
    check_topic(bootstrap, topic)
    producer = open_producer(bootstrap, {**BULK, "message.timeout.ms": 60_000})
    delivered: Counter[int] = Counter()
    failures: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is None:
            delivered[message.partition() or 0] += 1
        else:
            failures.append(error)

    try:
        for key, value in messages:
            while not failures:
                try:
                    producer.produce(topic, value, key, on_delivery=on_delivery)
                    break
                except BufferError:
                    producer.poll(1)
                except KafkaException as error:  # the topic is gone
                    failures.append(error.args[0])
            if failures:
                break
            producer.poll(0)
        producer.flush()
    except SystemError as error:
        # All that confluent_kafka leaves of a Ctrl-C that comes while it calls back.
        raise KeyboardInterrupt from error
    if failures:
        raise NotDelivered(
            f"{failures[0].str()}: {topic} at {bootstrap} took {delivered.total()} of the events. See "
            "`make logs S=kafka`, then send again: an event that arrives twice counts once"
        )
    return dict(sorted(delivered.items()))
