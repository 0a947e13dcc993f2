"""A market's log as it would have come: written with the arrival times that a broker would have given, so that minutes
of the past are final at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from include.beam.live import TOPICS
from local.simulator import shop
from local.simulator.events import TOPICS as SIMULATED
from local.simulator.market import Market
from local.simulator.pace import Pace
from tests.stand_ins import Broker

COUNTRIES = ("United Kingdom", "Germany", "France")
Message = tuple[int, str, bytes, bytes]  # arrival_ms, topic, key, value


def create_topics(broker: Broker, partitions: int = 2) -> None:
    """The job's topics, whose messages keep the times that they are sent with."""
    new = [NewTopic(topic, partitions, 1, config={"message.timestamp.type": "CreateTime"}) for topic in TOPICS]
    for created in broker.admin.create_topics(new).values():
        created.result()
    broker.wait_for_leaders(*TOPICS)


def visits(start_ms: int, end_ms: int, rate: float) -> Iterator[Message]:
    """The simulator's market of a window, with late, doubled and malformed messages."""
    market = Market(shop.load(), Pace.of(7, rate))
    for at in range(start_ms, end_ms, 10_000):
        events = market.events(at, min(at + 10_000, end_ms))
        for send_ms, topic, key, value in zip(
            events.send_ms.tolist(), events.topic.tolist(), events.keys, events.values
        ):
            if SIMULATED[topic] in TOPICS:
                yield send_ms, SIMULATED[topic], key, value


def orders(start_ms: int, end_ms: int, count: int, random: Random) -> Iterator[Message]:
    """Orders of few customers and cards, one in ten late to the stream, one in ten sent twice, some returns, some that
    are no event."""
    for number in range(count):
        send_ms = random.randrange(start_ms, end_ms)
        late_ms = random.choice((0, 500, 20_000, 59_000)) if random.random() < 0.9 else 60_001
        customer = f"C{random.randrange(count // 3)}"
        event = order(f"o-{number}", send_ms - late_ms, customer, random)
        value = json.dumps(event).encode()
        if random.random() < 0.05:
            value = random.choice((value[:-20], value.replace(b'"GBP"', b'"XYZ"'), b"\xff" + value, b""))
        yield send_ms, "sales.orders", customer.encode(), value
        if random.random() < 0.1:
            yield send_ms + random.choice((0, 3_000, 30_000)), "sales.orders", customer.encode(), value


def order(event_id: str, event_ms: int, customer: str, random: Random) -> dict[str, object]:
    """An order's event."""
    kind = random.choice(("sale", "sale", "sale", "return", "gift"))
    sign = -1 if kind == "return" else 1
    lines = [
        {"line_no": n + 1, "product_id": f"P{random.randrange(9)}", "quantity": sign * random.randrange(1, 9)}
        | {"unit_price": round(random.random() * 30, 3)}
        for n in range(random.randrange(1, 5))
    ]
    return {
        "event_id": event_id,
        "event_ts": datetime.fromtimestamp(event_ms / 1000, UTC).isoformat(),
        "order_id": event_id,
        "order_type": kind,
        "country": random.choice(COUNTRIES),
        "channel": "web",
        "currency": "GBP",
        "lines": lines,
        "customer_id": customer,
        "payments": [
            {"payment_no": 1, "method": "card", "outcome": random.choice(("accepted", "declined")), "amount": 10.5}
            | {"card_hash": f"card-{random.randrange(40):016d}", "billing_country": "France"}
        ],
    }


def send(broker: Broker, messages: Iterator[Message]) -> int:
    """Writes messages in the order of their arrival; returns how many."""
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "queue.buffering.max.messages": 1_000_000, "linger.ms": 5}
    )
    ordered = sorted(messages, key=lambda message: message[0])
    for arrival_ms, topic, key, value in ordered:
        producer.produce(topic, value, key, timestamp=arrival_ms)
        producer.poll(0)
    assert producer.flush(60) == 0
    return len(ordered)
