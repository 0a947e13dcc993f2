"""Hands events to Kafka in batches a partition, each event to the partition where its key belongs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message

from local.simulator.account import Account
from local.simulator.events import TOPICS, Events
from local.simulator.partitions import partitions
from local.simulator.producer import NotDelivered, check_topic, open_producer

log = logging.getLogger("simulator")


def check_topics(bootstrap: str, prefix: str = "", timeout_s: float = 10) -> dict[str, int]:
    """{topic: partitions} of all topics of the market. Raises BrokerUnreachable or TopicUnfit."""
    return {name: check_topic(bootstrap, f"{prefix}{name}", timeout_s) for name in TOPICS}


class Sender:
    """Queues events in librdkafka, which keeps them while the broker is away; the log says so, and when it is back.

    The account has every event as soon as it is queued: it is right when close() returns 0.
    """

    def __init__(
        self,
        bootstrap: str,
        counts: Mapping[str, int],
        settings: Mapping[str, Any],
        account: Account | None,
        prefix: str,
    ) -> None:
        self.bootstrap, self.prefix, self.account = bootstrap, prefix, account
        self.sent = 0
        self.failure: KafkaError | None = None
        self._counts = np.array([counts[topic] for topic in TOPICS], np.uint32)
        self._is_away, self._most_queued = False, 0
        only_failures = {"delivery.report.only.error": True, "error_cb": self._on_error}
        self._producer = open_producer(bootstrap, settings | only_failures)  # type: ignore[operator]

    def send(self, events: Events, stop: threading.Event | None = None) -> None:
        """Queues the events; those of one partition keep their order. Waits while the queue is full, until stop.

        Raises NotDelivered when the broker has refused an event for good.
        """
        if not len(events):
            return
        partition = partitions(events.keys, self._counts[events.topic])
        order = np.lexsort((partition, events.topic))  # stable
        place = events.topic[order].astype(np.int64) * 100_000 + partition[order]
        bounds = np.flatnonzero(np.diff(place, prepend=-1, append=-1))
        at = order.tolist()
        keys, values = events.keys, events.values
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist()):
            topic, number = TOPICS[int(events.topic[at[first]])], int(partition[at[first]])
            messages = [{"value": values[i], "key": keys[i]} for i in at[first:last]]
            if not self._produce(f"{self.prefix}{topic}", number, messages, stop):
                return
        self.sent += len(events)
        if self.account is not None:
            self.account.add(events, partition)
        self.serve()

    def _produce(
        self, topic: str, partition: int, messages: list[dict[str, Any]], stop: threading.Event | None
    ) -> bool:
        """Whether all were queued; not when stop came first."""
        while messages:
            try:
                self._producer.produce_batch(topic, messages, partition, on_delivery=self._on_failure)
            except BufferError:
                pass
            except KafkaException as error:  # the topic is gone
                self.failure = error.args[0]
            refused = [message for message in messages if "_error" in message]
            for message in refused:
                reason: KafkaError = message.pop("_error")
                if reason.code() != KafkaError._QUEUE_FULL:
                    self.failure = self.failure or reason
            messages = refused
            if messages:
                if stop is not None and stop.is_set():
                    return False
                self._producer.poll(0.05)
                self._settle()
        return True

    def serve(self) -> None:
        """Runs the callbacks that are due. Raises NotDelivered when the broker has refused an event for good."""
        self._producer.poll(0)
        if self._is_away:
            # While it is away the queue only grows.
            queued = len(self._producer)
            self._most_queued = max(self._most_queued, queued)
            if queued <= self._most_queued // 2:
                self._is_away, self._most_queued = False, 0
                log.info("the broker at %s is back", self.bootstrap)
        self._settle()

    def close(self, timeout_s: float) -> int:
        """Waits up to timeout_s for what is queued; returns how many events are left. Raises NotDelivered as serve."""
        left: int = self._producer.flush(timeout_s)
        if self.account is not None:
            self.account.write()
        self.serve()
        return left

    def _settle(self) -> None:
        if self.failure is not None:
            raise NotDelivered(
                f"{self.failure.str()}: the broker at {self.bootstrap} does not take events; see `make logs S=kafka`; "
                "if a topic was deleted, `make up` creates it"
            )

    def _on_failure(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.failure = self.failure or error

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.failure = self.failure or error
        elif not self._is_away:
            self._is_away = True
            log.warning("the broker at %s is away (%s): events wait in memory, trying on", self.bootstrap, error.str())
