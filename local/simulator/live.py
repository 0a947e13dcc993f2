"""Live orders: whole baskets of the real history, drawn at random and sent as they would happen now.

python -m local.simulator.live --bootstrap 127.0.0.1:18092 --rate 5 --seed 42

The orders of one second are a function of (seed, rate, second), their ids of the second. A restart goes on with the
next whole second, so no id comes twice; a second that was only half sent stays so. Run one generator at a time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from confluent_kafka import KafkaError, KafkaException, Message

from local.simulator import baskets, history
from local.simulator.producer import BrokerUnreachable, NotDelivered, TopicUnfit, check_topic, open_producer
from local.simulator.replay import TOPIC

MOBILE_SHARE = 0.3
# After a longer standstill (a laptop that slept, a full queue) the time in between is left out, not sent in a burst.
MAX_BEHIND_S = 10
QUEUE_KB = 16 * 1024
FLUSH_S = 8  # less than supervisord waits before it kills

log = logging.getLogger("live")


@dataclass(frozen=True, slots=True)
class Arrival:
    """An order to come. event_ms: milliseconds of POSIX time; basket: index into the baskets."""

    order_id: str
    event_ms: int
    basket: int
    is_mobile: bool


def arrivals(seed: int, rate: float, second: int, basket_count: int) -> list[Arrival]:
    """The orders of one second of POSIX time, a Poisson process of rate orders a second, by time."""
    draw = random.Random(f"{seed} {rate} {second}")
    found: list[Arrival] = []
    offset_s = draw.expovariate(rate)
    while offset_s < 1:
        event_ms = second * 1000 + int(offset_s * 1000)
        basket, is_mobile = draw.randrange(basket_count), draw.random() < MOBILE_SHARE
        found.append(Arrival(f"S{second}-{len(found)}", event_ms, basket, is_mobile))
        offset_s += draw.expovariate(rate)
    return found


def message(arrival: Arrival, order: history.Order) -> tuple[bytes, bytes]:
    """(key, value) of the arrival's `sales.orders` event. Customers use web and mobile; adjustments stay on "web"."""
    seconds, ms = divmod(arrival.event_ms, 1000)
    event_ts = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"
    channel = "mobile" if arrival.is_mobile and order.order_type != "adjustment" else "web"
    return history.key(order, arrival.order_id), history.event(order, arrival.order_id, event_ts, channel)


class Sender:
    """Hands orders to librdkafka, which keeps them while the broker is away; the log says so once, and when it is back.

    account: takes one JSON object a line for each order that the broker has taken: order_id, key, partition, offset,
    lines, amount (exact, as text). A kill -9 may leave out the last ones.
    """

    def __init__(self, bootstrap: str, topic: str, account: TextIO | None) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.delivered = 0
        self.failure: KafkaError | None = None
        self._account = account
        self._is_away = False
        settings = {
            "error_cb": self._on_error,
            "linger.ms": 5,
            "message.timeout.ms": 0,  # never give up
            "queue.buffering.max.kbytes": QUEUE_KB,
            "reconnect.backoff.max.ms": 2000,
        }
        self._producer = open_producer(bootstrap, settings)

    def send(self, arrival: Arrival, order: history.Order, stop: threading.Event) -> None:
        """Queues one order; while the queue is full (20 minutes at 5 a second) it waits."""
        key, value = message(arrival, order)
        # The callback must not hold the order itself: its lines would double the queue.
        account = {"order_id": arrival.order_id, "key": key.decode()}
        totals = {"lines": order.line_count, "amount": str(order.amount)}

        def on_delivery(error: KafkaError | None, sent: Message) -> None:
            if error is not None:
                self.failure = self.failure or error
                return
            self.delivered += 1
            if self._is_away:
                self._is_away = False
                log.info("the broker at %s is back", self.bootstrap)
            if self._account is not None:
                place = {"partition": sent.partition(), "offset": sent.offset()}
                self._account.write(json.dumps(account | place | totals) + "\n")

        while not stop.is_set():
            try:
                self._producer.produce(self.topic, value, key, on_delivery=on_delivery)
                break
            except BufferError:
                stop.wait(1)
                self.serve()
            except KafkaException as e:  # the topic is gone
                self.failure = e.args[0]
                break
        self.serve()

    def serve(self) -> None:
        """Runs the callbacks that are due. Raises NotDelivered when the broker has refused an order for good."""
        self._producer.poll(0)
        self._settle()

    def close(self, timeout_s: float) -> int:
        """Waits up to timeout_s for what is queued; returns how many orders are left. Raises NotDelivered as serve."""
        left: int = self._producer.flush(timeout_s)
        self._settle()
        return left

    def _settle(self) -> None:
        if self._account is not None:
            self._account.flush()
        if self.failure is not None:
            raise NotDelivered(
                f"{self.failure.str()}: {self.topic} at {self.bootstrap} does not take orders; "
                "see `make logs S=kafka`; if the topic was deleted, `make up` creates it"
            )

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.failure = self.failure or error
        elif not self._is_away:
            self._is_away = True
            log.warning("the broker at %s is away (%s): orders wait in memory, trying on", self.bootstrap, error.str())


def wait_for_topic(bootstrap: str, topic: str, stop: threading.Event) -> None:
    """Returns when the topic can be written to, or on stop. Raises TopicUnfit at once: waiting would not help."""
    is_told = False
    while not stop.is_set():
        try:
            check_topic(bootstrap, topic, timeout_s=2)
            return
        except BrokerUnreachable as e:
            if not is_told:
                log.warning("%s. Trying on", e)
                is_told = True
            stop.wait(1)


def schedule(seed: int, rate: float, basket_count: int, stop: threading.Event) -> Iterator[Arrival]:
    """Arrivals from the next whole second on, each when its time has come, until stop."""
    second = int(time.time()) + 1
    while not stop.is_set():
        behind_s = time.time() - second
        if behind_s > MAX_BEHIND_S:
            log.warning("%d s were missed (the machine slept or the queue was full): no orders for them", behind_s)
            second = int(time.time()) + 1
        for arrival in arrivals(seed, rate, second, basket_count):
            # A clock set back makes the schedule wait, so that no second comes twice.
            while (ahead_s := arrival.event_ms / 1000 - time.time()) > 0:
                if stop.wait(min(ahead_s, 1)):
                    return
            yield arrival
        second += 1


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code. SIGTERM and SIGINT end it after the queue is flushed."""
    parser = argparse.ArgumentParser(prog="python -m local.simulator.live", description="Send live orders to Kafka.")
    parser.add_argument("--bootstrap", required=True, help="host:port of the broker")
    parser.add_argument("--topic", default=TOPIC)
    parser.add_argument("--rate", type=float, default=5, help="orders a second on average; 0: paused")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--count", type=int, help="end after this many orders")
    parser.add_argument("--account", type=Path, help="append what the broker has taken to this file, as JSON lines")
    options = parser.parse_args(arguments)
    if options.rate < 0:
        parser.error(f"--rate {options.rate}: give orders a second, 0 or more")
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.rate == 0:
        log.info("paused (--rate 0)")
        stop.wait()
        return 0
    account = options.account.open("a") if options.account else None
    try:
        wait_for_topic(options.bootstrap, options.topic, stop)
        stock = baskets.load()
        sender = Sender(options.bootstrap, options.topic, account)
        log.info("%g orders a second to %s at %s", options.rate, options.topic, options.bootstrap)
        due = schedule(options.seed, options.rate, len(stock), stop)
        for arrival in itertools.islice(due, options.count):
            sender.send(arrival, stock[arrival.basket].unpack(), stop)
        left = sender.close(FLUSH_S)
        log.info("%d orders delivered, %d left behind", sender.delivered, left)
    except (TopicUnfit, NotDelivered, FileNotFoundError) as e:
        log.error("%s", e)
        return 1
    finally:
        if account is not None:
            account.close()
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
