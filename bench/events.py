"""Seeded events for the benchmark's topic: 10 % orders, 1 % sent twice, 0.5 % that no reader may accept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from local.simulator.producer import NotDelivered, open_producer

START = np.datetime64("2026-01-15T10:00:00.000")
HOUR_MS = 3_600_000
BLOCK = 50_000
TWICE, BROKEN = 0.01, 0.005


def events(count: int, seed: int = 7) -> Iterator[tuple[str, bytes]]:
    """(key, JSON) of count events of one hour in order of time, and of those that are sent twice."""
    random = np.random.default_rng(seed)
    for first in range(0, count, BLOCK):
        yield from _block(first, min(BLOCK, count - first), count, random)


def _block(first: int, size: int, count: int, random: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    numbers = np.arange(first, first + size)
    moments = START + (numbers * HOUR_MS // count).astype("timedelta64[ms]")
    columns = zip(
        numbers.tolist(),
        np.datetime_as_string(moments).tolist(),
        random.integers(1, 200_001, size).tolist(),
        (random.zipf(1.3, size) % 5_000).tolist(),
        (random.random(size) < 0.1).tolist(),
        (random.random(size) < TWICE).tolist(),
        (random.random(size) < BROKEN).tolist(),
    )
    for i, ts, customer, product, is_order, is_twice, is_broken in columns:
        kind = "order" if is_order else "click"
        text = (
            f'{{"event_id": "e{i:012d}", "event_type": "{kind}", "event_ts": "{ts}Z", "ingest_ts": "{ts}Z", '
            f'"customer_id": {customer}, "source": "{"web" if i % 3 else "mobile"}", "product_id": "P{product:05d}", '
            f'"session_id": "s{customer}-{i // 50_000}", "page": "/p/{product}", '
            f'"device": {{"os": "{"ios" if i % 2 else "android"}", "browser": "safari"}}, "referrer": "search", '
            f'"dwell_ms": {i % 30_000}'
        )
        if is_order:
            text += (
                f', "order_id": "o{i}", "quantity": {1 + i % 4}, "unit_price": {5 + i % 9_000 / 100:.2f}, '
                f'"currency": "GBP", "payment_method": "card", "ship_country": "GB"'
            )
        text += "}"
        if is_broken:
            text = _broken(text, i)
        for _ in range(1 + is_twice):
            yield str(customer), text.encode()


def _broken(text: str, i: int) -> str:
    """Mostly cut in half, as in a torn message; the others are JSON that breaks one rule each."""
    faults = {
        6: ('"event_id": ', '"event_id": null, "_": '),
        7: ('"event_type": "', '"event_type": "un'),
        8: ("T10:", "T31:"),
        9: ('"customer_id": ', '"customer_id": -'),
    }
    if i % 10 not in faults:
        return text[: len(text) // 2]
    return text.replace(*faults[i % 10], 1)


def send(bootstrap: str, topic: str, count: int) -> int:
    """Sends count events and their doubles; returns how many messages the broker has. Raises NotDelivered."""
    failed = 0

    def told(error: object, _: object) -> None:
        nonlocal failed
        failed += error is not None

    producer = open_producer(bootstrap, {"linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    sent = 0
    for key, value in events(count):
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=told)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        if sent % 5_000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    if failed or left:
        raise NotDelivered(f"{failed + left} of {sent} benchmark events did not reach {topic} at {bootstrap}")
    return sent
