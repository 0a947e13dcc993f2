"""Accepted events to Kafka: all of them are there, or the sender is told to send again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from include import producing
from include.functions.pushed import Passing

TIMEOUT_S = 10.0
# What the broker will say again however often it is asked.
HOPELESS = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD}


def connection(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """librdkafka's connection settings. Raises SystemExit that names the setting."""
    try:
        found = msgspec.json.decode(environment["MADHATTER_KAFKA"], type=dict[str, Any])
        found["bootstrap.servers"]
    except (KeyError, msgspec.MsgspecError) as error:
        raise SystemExit(
            f'event_validation: MADHATTER_KAFKA is not JSON such as {{"bootstrap.servers": "host:9092"}}: {error!r}'
        ) from None
    return found


def send(topic: str, values: Sequence[bytes]) -> dict[int, str]:
    """Returns when each event is in Kafka, or refused for good: index in values -> why. Raises Passing when Kafka does
    not take one in time; it may have the others, and get them again."""
    producer, key = _producer(), _key_of(topic)
    ended: dict[int, KafkaError | None] = {}

    def told(index: int) -> Any:
        return lambda error, _: ended.update({index: error})

    for index, value in enumerate(values):
        try:
            producer.produce(topic, value, key(value), on_delivery=told(index))
        except BufferError:
            ended[index] = KafkaError(KafkaError._QUEUE_FULL)
        except KafkaException as failure:
            ended[index] = failure.args[0]
    deadline = time.monotonic() + TIMEOUT_S
    while len(ended) < len(values) and time.monotonic() < deadline:
        producer.poll(0.1)
    failed = {index: error for index in range(len(values)) if (error := ended.get(index, _LATE)) is not None}
    for error in failed.values():
        if error.code() not in HOPELESS:
            raise Passing(f"Kafka does not take {topic}: {error.str()}")
    return {index: f"Kafka refuses it: {error.str()}" for index, error in failed.items()}


_LATE = KafkaError(KafkaError._MSG_TIMED_OUT)
_key_of = cache(producing.key_of)


@cache
def _producer() -> Producer:
    # Made at the first event: gunicorn forks, and its threads do not survive that.
    return Producer(producing.settings(connection(), {"message.timeout.ms": int(TIMEOUT_S * 1000)}))
