"""Topic settings that bound the log: how long, how much, in which pieces. Contracts say how long a topic's messages are
worth keeping, the environment how much of that it has room for."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from madhatter.kafka import TIMEOUT_S
from madhatter.settings import kept_in_log, settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

# A broker removes whole segments that it no longer writes to: what is kept goes over its bound by one of them.
SEGMENT = timedelta(days=1)
PIECES = 8
SMALLEST_SEGMENT = 1 << 20  # Kafka's own limit


def bounds(retention_ms: int) -> dict[str, str]:
    """The topic settings for a contract's retention (-1: no end) in this environment."""
    kept, size = kept_in_log(retention_ms), settings().log_bytes
    found = {"retention.ms": "-1", "retention.bytes": str(size or -1)}
    if kept is not None:
        found["retention.ms"] = str(kept // timedelta(milliseconds=1))
        found["segment.ms"] = str(min(kept, SEGMENT) // timedelta(milliseconds=1))
    if size:
        found["segment.bytes"] = str(max(SMALLEST_SEGMENT, size // PIECES))
    return found


def align(client: AdminClient, topics: Iterable[str]) -> dict[str, dict[str, str]]:
    """Gives topics the bounds of their contracts; returns what was changed, {topic: {setting: value}}. Raises
    KafkaException."""
    from include.contracts.contract import contract

    return set_bounds(client, {topic: bounds(contract(topic).retention_ms) for topic in topics})


def set_bounds(client: AdminClient, wanted: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Sets topics' settings where they are others; returns those. Raises KafkaException."""
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    changed: dict[str, dict[str, str]] = {}
    for topic, found in _described(client, wanted).items():
        if other := {name: value for name, value in wanted[topic].items() if found[name] != value}:
            changed[topic] = other
    orders = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in values.items()
            ],
        )
        for topic, values in changed.items()
    ]
    for future in client.incremental_alter_configs(orders, request_timeout=TIMEOUT_S).values() if orders else ():
        future.result()
    return changed


def _described(client: AdminClient, topics: Iterable[str]) -> dict[str, dict[str, str]]:
    """The settings that topics have, {topic: {setting: value}}. Waits for a topic that was made just now: the broker
    that is asked hears of it a moment after the one that made it. Raises KafkaException after TIMEOUT_S."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType

    asked, deadline = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics], time.monotonic() + TIMEOUT_S
    while True:
        described = client.describe_configs(asked, request_timeout=TIMEOUT_S)
        try:
            return {
                resource.name: {name: entry.value for name, entry in future.result().items()}
                for resource, future in described.items()
            }
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
        time.sleep(0.2)
