"""Send the real history to Kafka: 25,900 orders, the same bytes for the same shift. docs/data.md says what they are.

python -m local.simulator.replay --bootstrap 127.0.0.1:18092 [--original]
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from confluent_kafka import KafkaError, KafkaException, Message

from local.simulator import history
from local.simulator.producer import BrokerUnreachable, NotDelivered, TopicUnfit, check_topic, open_producer

TOPIC = "sales.orders"


@dataclass(frozen=True)
class Sent:
    """What the broker has taken: events, their order lines, and {partition: events}."""

    events: int
    lines: int
    by_partition: dict[int, int]


def shift_weeks(today: date) -> int:
    """Whole weeks from the history's last day, a Friday, to the last Friday strictly before today (UTC)."""
    return (today - timedelta(days=1) - history.LAST_DAY).days // 7


def orders(weeks: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each `sales.orders` event by (event_ts, order_id), moved by weeks; 0 keeps the original time."""
    for order in history.read():
        yield _message(order, timedelta(weeks=weeks))


def send(bootstrap: str, topic: str, weeks: int) -> Sent:
    """Sends orders(weeks) and returns once the broker has them all.

    Raises BrokerUnreachable, TopicUnfit or NotDelivered. To send again is safe: a repeated event has the same event_id.
    """
    check_topic(bootstrap, topic)
    # The queue holds the whole history, so that produce never finds it full.
    settings = {"linger.ms": 50, "queue.buffering.max.messages": 30_000, "message.timeout.ms": 60_000}
    producer = open_producer(bootstrap, settings)
    delivered: Counter[int | None] = Counter()
    failures: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is None:
            delivered[message.partition()] += 1
        else:
            failures.append(error)

    events = lines = 0
    for order in history.read():
        if failures:
            break
        key, value = _message(order, timedelta(weeks=weeks))
        try:
            producer.produce(topic, value, key, on_delivery=on_delivery)
        except KafkaException as e:  # the topic is gone
            failures.append(e.args[0])
            break
        producer.poll(0)
        events += 1
        lines += order.line_count
    producer.flush()
    if failures:
        raise NotDelivered(
            f"{failures[0].str()}: {topic} at {bootstrap} took {delivered.total()} of the history's events, "
            f"{len(failures)} failed. See `make logs S=kafka`, then send again: an event that arrives twice counts once"
        )
    return Sent(events, lines, {partition: n for partition, n in sorted(delivered.items()) if partition is not None})


def _message(order: history.Order, shift: timedelta) -> tuple[bytes, bytes]:
    event_ts = f"{(order.event_ts + shift).isoformat()}Z"
    return history.key(order, order.order_id), history.event(order, order.order_id, event_ts, channel="web")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m local.simulator.replay", description="Send the real history to Kafka.")
    parser.add_argument("--bootstrap", required=True, help="host:port of the broker")
    parser.add_argument("--topic", default=TOPIC)
    parser.add_argument("--original", action="store_true", help="keep the original time, do not move it to now")
    options = parser.parse_args(arguments)
    weeks = 0 if options.original else shift_weeks(datetime.now(UTC).date())
    try:
        sent = send(options.bootstrap, options.topic, weeks)
    except (BrokerUnreachable, TopicUnfit, NotDelivered, FileNotFoundError) as e:
        print(f"replay: {e}", file=sys.stderr)
        return 1
    last_day = history.LAST_DAY + timedelta(weeks=weeks)
    print(
        f"{sent.events:,} orders, {sent.lines:,} lines sent to {options.topic}; {weeks} weeks later, up to {last_day}"
    )
    print(", ".join(f"partition {partition}: {events:,}" for partition, events in sent.by_partition.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
