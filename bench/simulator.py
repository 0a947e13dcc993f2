"""How many events a CPU second the simulator brings into Kafka, beside a generator that makes one event at a time.

python -m bench.simulator

Counted is the CPU time of the whole process, librdkafka's threads included: start, reading the history, generating,
compressing, sending. That of the broker is not.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
EVENTS, NAIVE_EVENTS, RATE = 2_000_000, 200_000, 1_000
START_MS = 1_768_471_200_000  # 2026-01-15T10:00Z
PARTITIONS = 4


def ours(bootstrap: str) -> int:
    """The market, without an account; returns how many events the broker has."""
    from local.simulator import batch, shop
    from local.simulator.market import Market
    from local.simulator.pace import Pace

    market = Market(shop.load(), Pace.of(7, RATE))
    return batch.send(bootstrap, batch.pieces(market, START_MS, START_MS + EVENTS * 1000 // RATE)).events


def naive(bootstrap: str) -> int:
    """Events of the same size, drawn, formatted and sent one at a time; returns how many events the broker has."""
    from local.simulator.producer import open_producer

    producer = open_producer(bootstrap, {"linger.ms": 50})
    sent = 0
    for topic, key, event in _one_at_a_time():
        while True:
            try:
                producer.produce(topic, json.dumps(event, separators=(",", ":")), key)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        producer.poll(0)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} of {sent} events did not arrive")
    return sent


def _one_at_a_time() -> Iterator[tuple[str, str, dict[str, object]]]:
    """(topic, key, event): sessions of about eight interactions, and readings."""
    draw = random.Random(7)
    products, weights = [f"P{n}" for n in range(4_000)], [1 / (n + 1) for n in range(4_000)]
    made = 0
    while made < NAIVE_EVENTS:
        visitor, at = f"v-{draw.getrandbits(32):08x}", START_MS / 1000 + draw.random() * 3600
        for number in range(1, 2 + int(draw.expovariate(1 / 7))):
            at += draw.lognormvariate(2.7, 1)
            moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
            made += 1
            yield (
                "web.interactions",
                visitor,
                {
                    "event_id": f"web:{visitor[2:]}-{number}",
                    "event_ts": moment,
                    "visitor_id": visitor,
                    "session_id": f"s-{visitor[2:]}",
                    "channel": "web",
                    "device": draw.choice(["desktop", "tablet", "phone"]),
                    "country": draw.choice(["United Kingdom", "Germany", "France"]),
                    "app_version": "4.12.0",
                    "interaction_type": draw.choice(["view", "search", "product_view", "add_to_cart"]),
                    "page": "product",
                    "product_id": draw.choices(products, weights)[0],
                    "page_load_ms": int(draw.lognormvariate(6.2, 0.55)),
                },
            )
            if draw.random() < 0.6:
                device = f"LEEDS-T-{draw.randrange(40):02d}"
                made += 1
                yield (
                    "iot.readings",
                    device,
                    {
                        "event_id": f"iot:{device}-{made}",
                        "event_ts": moment,
                        "device_id": device,
                        "warehouse_id": "LEEDS",
                        "sensor_type": "temperature",
                        "reading": round(draw.gauss(18, 2), 2),
                        "battery_percent": draw.randrange(100),
                    },
                )


CONTENDERS = {"the simulator": ours, "one event at a time": naive}


def main() -> None:
    """Runs the contenders one after the other, each in a process of its own and against a broker of its own."""
    parser = argparse.ArgumentParser("python -m bench.simulator")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        events = CONTENDERS[options.contender](options.bootstrap)
        print(json.dumps({"events": events, "cpu_s": time.process_time()}))
        return

    from bench import broker
    from local.simulator.events import TOPICS

    print(f"{'into Kafka':<22}{'events':>12}{'wall s':>8}{'CPU s':>8}{'events / CPU s':>16}")
    for name in CONTENDERS:
        with tempfile.TemporaryDirectory(prefix="bench-sim-") as folder, broker.running(Path(folder)) as bootstrap:
            for topic in TOPICS:
                broker.create_topic(bootstrap, topic, PARTITIONS)
            command = [sys.executable, "-m", "bench.simulator", "--contender", name, "--bootstrap", bootstrap]
            started = time.monotonic()
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
            wall_s = time.monotonic() - started
            said = json.loads(done.stdout)
        rate = said["events"] / said["cpu_s"]
        print(f"{name:<22}{said['events']:>12,}{wall_s:>8.1f}{said['cpu_s']:>8.1f}{rate:>16,.0f}")


if __name__ == "__main__":
    main()
