"""Hands events to Kafka in batches a partition, each event to the partition where its key belongs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message

from local.simulator.account import Account
from local.simulator.events import TOPICS, Events
from local.simulator.log import Left
from local.simulator.partitions import partitions
from local.simulator.producer import NotDelivered, check_topic, open_producer

ASK_EVERY_S = 0.5  # whether a broker that was away is back

log = logging.getLogger("simulator")


def check_topics(bootstrap: str, prefix: str = "", timeout_s: float = 10) -> dict[str, int]:
    """{topic: partitions} of all topics of the market. Raises BrokerUnreachable or TopicUnfit."""
    return {name: check_topic(bootstrap, f"{prefix}{name}", timeout_s) for name in TOPICS}


class Sender:
    """Queues events in librdkafka, which keeps them while the broker is away; the log says so, and when it is back.

    The account has every event as soon as it is queued: it is right when close() returns 0. left: what an earlier
    sending of the same events has left in the log; that is not sent again, and counts as sent.
    """

    def __init__(
        self,
        bootstrap: str,
        counts: Mapping[str, int],
        settings: Mapping[str, Any],
        account: Account | None,
        prefix: str,
        left: Left | None = None,
    ) -> None:
        self.bootstrap, self.prefix, self.account = bootstrap, prefix, account
        self.sent = self.kept = 0
        self._left = left
        self.failure: KafkaError | None = None
        self._counts = np.array([counts[topic] for topic in TOPICS], np.uint32)
        self._is_away, self._asked = False, 0.0
        only_failures = {"delivery.report.only.error": True, "error_cb": self._on_error}
        self._producer = open_producer(bootstrap, settings | only_failures)  # type: ignore[operator]

    def send(self, events: Events, stop: threading.Event | None = None) -> None:
        """Queues the events; those of one partition keep their order, but for those that found the queue full. Then it
        waits, until stop.

        Raises NotDelivered when the broker has refused an event for good.
        """
        if not len(events):
            return
        partition = partitions(events.keys, self._counts[events.topic])
        order = np.lexsort((partition, events.topic))  # stable
        place = events.topic[order].astype(np.int64) * 100_000 + partition[order]
        bounds = np.flatnonzero(np.diff(place, prepend=-1, append=-1)).tolist()
        queued: list[int] = []
        for first, last in pairwise(bounds):
            rows = order[first:last].tolist()
            topic, number = f"{self.prefix}{TOPICS[int(events.topic[rows[0]])]}", int(partition[rows[0]])
            kept = self._left.take((topic, number), [events.values[row] for row in rows]) if self._left else 0
            self.kept += kept
            unsent = self._produce(topic, number, rows[kept:], events, stop)
            queued += rows if not unsent else [row for row in rows if row not in unsent]
            if unsent:
                break
        self.sent += len(queued)
        if self.account is not None and len(queued) == len(events):
            self.account.add(events, partition)
        elif self.account is not None:
            self.account.add(events.take(np.array(queued, np.int64)), partition[queued])
        self.serve()

    def _produce(
        self, topic: str, partition: int, rows: list[int], events: Events, stop: threading.Event | None
    ) -> set[int]:
        """Queues rows of events for one partition; returns those that were not, because stop came first."""
        if not rows:
            return set()
        keys, values = events.keys, events.values
        messages: list[dict[str, Any]] = [{"value": values[row], "key": keys[row]} for row in rows]
        while True:
            try:
                taken = self._producer.produce_batch(topic, messages, partition, on_delivery=self._on_failure)
            except KafkaException as error:  # the topic is gone
                self.failure, taken = error.args[0], 0
            refused = [(row, message) for row, message in zip(rows, messages) if "_error" in message]
            for _, message in refused:
                reason: KafkaError = message.pop("_error")
                if reason.code() != KafkaError._QUEUE_FULL:
                    self.failure = self.failure or reason
            self._settle()
            if taken + len(refused) != len(messages):
                raise NotDelivered(
                    f"librdkafka took {taken} of {len(messages)} messages and named {len(refused)} others"
                )
            if not refused or (stop is not None and stop.is_set()):
                return {row for row, _ in refused}
            rows, messages = [row for row, _ in refused], [message for _, message in refused]
            self._producer.poll(0.05)

    def serve(self) -> None:
        """Runs the callbacks that are due. Raises NotDelivered when the broker has refused an event for good."""
        self._producer.poll(0)
        if self._is_away and time.monotonic() > self._asked + ASK_EVERY_S and self._answers():
            self._is_away = False
            log.info("the broker at %s is back", self.bootstrap)
        self._settle()

    def _answers(self) -> bool:
        self._asked = time.monotonic()
        try:
            self._producer.list_topics(timeout=0.1)
        except KafkaException:
            return False
        return True

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
            self._is_away, self._asked = True, time.monotonic()
            log.warning("the broker at %s is away (%s): events wait in memory, trying on", self.bootstrap, error.str())
