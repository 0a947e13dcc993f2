"""How everything that sends events writes to Kafka: the settings, the keys, and why. The only place for both.

Every sender (the collector, the simulator, the replay of files) takes `settings()` and adds what is its own, such as
how long it lets messages gather. Names are librdkafka's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from include.contracts.contract import contract

SETTINGS: dict[str, Any] = {
    # A message counts as sent when every in-sync replica has it. With fewer, a leader's death loses what it took.
    "acks": "all",
    # The broker drops what a retry repeats and keeps a partition's messages in the order in which they were sent.
    "enable.idempotence": True,
    # Of the codecs lz4 costs a sender the least CPU; events of one kind still shrink to a third. The batch is
    # compressed once, stored and read as it is.
    "compression.type": "lz4",
    # Java's partitioner, so that all senders, whatever their language, put a key into the same partition.
    "partitioner": "murmur2_random",
    # Milliseconds for which a message waits for others to share its batch: nobody notices five.
    "linger.ms": 5,
    # librdkafka would report each attempt to reach a broker that is away; the senders tell it once.
    "log_level": 2,
}

# For senders that read a file or make a history: larger batches are a third cheaper for sender and broker.
BULK: dict[str, Any] = {"linger.ms": 50, "batch.size": 1_000_000}


def settings(connection: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A producer's settings. connection: bootstrap.servers and how to log in; own: what the sender adds."""
    return {**SETTINGS, **connection, **own}


def key_of(topic: str) -> Callable[[bytes], bytes]:
    """The key of an accepted event of the topic, from its bytes: the first field of the contract's key that is set.

    Raises LookupError when there is no such topic."""
    fields = contract(topic).key
    shape = msgspec.defstruct("Key", [(name, str | None, None) for name in fields])
    decode = msgspec.json.Decoder(shape).decode

    def key(value: bytes) -> bytes:
        event = decode(value)
        return next((found.encode() for name in fields if (found := getattr(event, name))), b"")

    return key
