"""What is in the log: all messages from given offsets to the ends."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from local.simulator.producer import BrokerUnreachable

READ_TIMEOUT_S = 30
Place = tuple[str, int]  # topic, partition


def read(bootstrap: str, first: Mapping[Place, int]) -> Iterator[Message]:
    """The messages of each partition from its first offset to its end. Raises BrokerUnreachable."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "simulator", "enable.auto.commit": False}
    consumer = Consumer({**settings, "enable.partition.eof": True, "log_level": 2})
    try:
        consumer.assign([TopicPartition(*place, offset) for place, offset in first.items()])
        open_ends, heard = set(first), time.monotonic()
        while open_ends:
            some = consumer.consume(10_000, 0.2)  # returns when it has them all or the time is over
            if some:
                heard = time.monotonic()
            elif time.monotonic() - heard > READ_TIMEOUT_S:
                raise BrokerUnreachable(
                    f"the log at {bootstrap} has not been read to its end: nothing came for {READ_TIMEOUT_S} s. See "
                    "`make logs S=kafka`"
                )
            for message in some:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_ends.discard((message.topic() or "", message.partition() or 0))
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


class Left:
    """What a sending that was broken off has left in the log: a beginning of what it had to send to each partition."""

    def __init__(self, bootstrap: str, first: Mapping[Place, int]) -> None:
        self._hashes: defaultdict[Place, deque[int]] = defaultdict(deque)
        for message in read(bootstrap, first):
            self._hashes[message.topic() or "", message.partition() or 0].append(hash(message.value()))

    def take(self, place: Place, values: list[bytes]) -> int:
        """How many of the values, which come next in the partition, are there. Where something else comes first, all
        that follows is to be sent: what arrives twice counts once, what does not arrive is lost."""
        there = self._hashes[place]
        for number, value in enumerate(values):
            if not there:
                return number
            if there.popleft() != hash(value):
                there.clear()
                return number
        return len(values)
