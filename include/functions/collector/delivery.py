"""Brings messages to Kafka; to the spool first while Kafka does not answer, and from there in the same order.

One producer never gives a message up, so its queue keeps the order. A request waits `wait_s` for its messages. When
they are late, all that the topic has under way goes to the spool as well, and from then on every newer message of the
topic goes there directly, until the spool is empty again. Messages under way are not sent twice: the drain waits for
them. Only after a crash may Kafka get a message again, with the same event_id.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from include import producing
from include.functions.collector.spool import Message, Spool, SpoolFull

log = logging.getLogger("collector")

BATCH = 500  # messages that a drain has under way
RETRY_S = 2.0
QUEUE_KB = 64 * 1024
# What the broker will say again however often it is asked. All else may pass: a topic that is made, a login mended.
HOPELESS = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD}


@dataclass(eq=False, slots=True)
class Sent:
    """A message on its way. number: its place in the spool. error: why it is not in Kafka, and no longer under way."""

    message: Message
    number: int | None = None
    is_delivered: bool = False
    error: KafkaError | None = None

    @property
    def is_settled(self) -> bool:
        return self.is_delivered or self.error is not None

    @property
    def refusal(self) -> str | None:
        """Why Kafka will never take it."""
        return self.error.str() if self.error is not None and self.error.code() in HOPELESS else None


class Delivery:
    """Sends messages of all topics. kafka: librdkafka's connection settings; wait_s: how long `send` waits."""

    def __init__(self, kafka: dict[str, Any], spool: Spool, wait_s: float) -> None:
        self._spool, self._wait_s = spool, wait_s
        self._changed = threading.Condition()
        self._under_way: dict[str, dict[int, Sent]] = {}  # by topic, in the order of sending
        self._waiting = spool.counts()  # messages in the spool, by topic
        self._twofold: dict[int, Sent] = {}  # in the spool and under way, by number; the drain takes them over
        self._producer = Producer(
            producing.settings(
                kafka,
                {
                    "message.timeout.ms": 0,  # never give up
                    "queue.buffering.max.kbytes": QUEUE_KB,
                    "reconnect.backoff.max.ms": 1000,
                    "error_cb": self._on_error,
                },
            )
        )
        threading.Thread(target=self._poll, name="poll", daemon=True).start()
        for topic, count in tuple(self._waiting.items()):
            log.warning("%d events of %s wait in the spool %s", count, topic, spool.path)
            self._drain_aside(topic)

    @property
    def waiting(self) -> dict[str, int]:
        """Messages in the spool, by topic."""
        with self._changed:
            return {topic: count for topic, count in self._waiting.items() if count}

    def send(self, topic: str, messages: Sequence[Message]) -> list[Sent]:
        """Returns when each message is in Kafka, in the spool (`number`), or refused for good (`refusal`).

        Raises SpoolFull when there is room in neither; some of the messages may then still arrive.
        """
        sent = [Sent(message) for message in messages]
        with self._changed:
            if self._waiting.get(topic):
                self._put_by(topic, sent)
                return sent
            for one in sent:
                self._produce(topic, one)
            self._changed.wait_for(_all(sent, lambda one: one.is_settled or one.number is not None), self._wait_s)
            if late := [one for one in sent if not (one.is_delivered or one.number or one.refusal)]:
                queued = [one for one in self._under_way[topic].values() if one.number is None]
                self._put_by(topic, queued + [one for one in late if one.error])
                cause = next((one.error.str() for one in late if one.error), f"no answer in {self._wait_s:g} s")
                log.warning("Kafka does not take %s (%s): its events go to the spool", topic, cause)
            return sent

    def _produce(self, topic: str, one: Sent) -> None:
        """Hands a message to librdkafka; one that it has no room for keeps an error. Holds the lock."""
        key, value = one.message
        one.error = None
        self._under_way.setdefault(topic, {})[id(one)] = one
        try:
            self._producer.produce(topic, value, key, on_delivery=partial(self._on_delivery, topic, one))
        except BufferError:
            one.error = KafkaError(KafkaError._QUEUE_FULL)
        except KafkaException as error:
            one.error = error.args[0]
        if one.error is not None:
            del self._under_way[topic][id(one)]

    def _put_by(self, topic: str, late: list[Sent]) -> None:
        """Spools messages, under way or not. Holds the lock."""
        for one, number in zip(late, self._spool.append(topic, [one.message for one in late]), strict=True):
            one.number = number
            if id(one) in self._under_way.get(topic, {}):
                self._twofold[number] = one
        is_draining = bool(self._waiting.get(topic))
        self._waiting[topic] = self._waiting.get(topic, 0) + len(late)
        self._changed.notify_all()
        if not is_draining:
            self._drain_aside(topic)

    def _drain_aside(self, topic: str) -> None:
        threading.Thread(target=self._drain, args=(topic,), name=f"drain {topic}", daemon=True).start()

    def _drain(self, topic: str) -> None:
        """Sends what the spool has of a topic until it has nothing."""
        delivered, told = 0, ""
        with self._changed:
            while self._waiting[topic]:
                try:
                    count, trouble = self._drain_batch(topic)
                    delivered += count
                except (SpoolFull, sqlite3.Error) as error:
                    trouble = str(error)
                if trouble:
                    if trouble != told:
                        log.error("events of %s stay in the spool: %s. Trying on", topic, trouble)
                    told = trouble
                    self._changed.wait_for(lambda: False, RETRY_S)
            log.warning("the spool of %s is empty again: %d events delivered", topic, delivered)

    def _drain_batch(self, topic: str) -> tuple[int, str]:
        """Sends the first messages that the spool has of a topic. Returns how many Kafka has taken, and why not all."""
        batch: dict[int, Sent] = {}
        for number, message in self._spool.read(topic, BATCH):
            one = self._twofold.pop(number, None)
            if one is None:
                one = Sent(message, number)
                self._produce(topic, one)
            batch[number] = one
        self._changed.wait_for(_all(batch.values(), lambda one: one.is_settled))
        done = [number for number, one in batch.items() if one.is_delivered]
        self._spool.remove(done)
        self._waiting[topic] -= len(done)
        trouble = ""
        for number, one in batch.items():
            if one.refusal:
                log.error("Kafka refuses an event of %s for good (%s): set aside", topic, one.refusal)
                self._spool.refuse(number, one.refusal)
                self._waiting[topic] -= 1
            elif one.error:
                trouble = one.error.str()
        return len(done), trouble

    def _on_delivery(self, topic: str, one: Sent, error: KafkaError | None, _: object) -> None:
        with self._changed:
            one.is_delivered, one.error = error is None, error
            self._under_way[topic].pop(id(one), None)

    def _poll(self) -> None:
        while True:
            if self._producer.poll(0.2):
                with self._changed:
                    self._changed.notify_all()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            # A new process begins anew with what the spool has; requests that were not answered are sent again.
            log.critical("the producer has failed for good (%s): starting again", error.str())
            os._exit(70)


def _all(sent: Iterable[Sent], condition: Callable[[Sent], bool]) -> Callable[[], bool]:
    """Whether all messages fulfil a condition that, once true, stays so. Asked often; most come in their order."""
    left = list(sent)

    def is_done() -> bool:
        while left and condition(left[-1]):
            left.pop()
        return not left

    return is_done
