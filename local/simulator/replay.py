"""Send the real history to Kafka: 25,900 orders, the same bytes for the same shift. docs/data.md says what they are.

python -m local.simulator.replay --bootstrap 127.0.0.1:18092 [--original]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from local.simulator import history
from local.simulator.producer import BrokerUnreachable, NotDelivered, TopicUnfit, deliver

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


def send(bootstrap: str, topic: str, weeks: int, without: Container[str] = ()) -> Sent:
    """Sends orders(weeks), but for the order ids in `without`, and returns once the broker has them all.

    Raises BrokerUnreachable, TopicUnfit or NotDelivered. To send again is safe: a repeated event has the same event_id.
    """
    lines = 0

    def messages() -> Iterator[tuple[bytes, bytes]]:
        nonlocal lines
        for order in history.read():
            if order.order_id not in without:
                lines += order.line_count
                yield _message(order, timedelta(weeks=weeks))

    by_partition = deliver(bootstrap, topic, messages())
    return Sent(sum(by_partition.values()), lines, by_partition)


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
