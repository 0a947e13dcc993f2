"""The streaming job alone, on Prism, at a rate: whether its lag grows, and what runner, worker and broker use.

python -m bench.live [--rate 40000] [--seconds 60]

Beside it a plain consumer of the same log, one event at a time: json.loads and two checks, no state, no signals. Lag is
the broker's ends less what the job says it has read, when it says so. Latency is from a message's arrival to Pub/Sub's
taking of its signal, of the kinds that one message decides.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import psutil

from bench import broker
from include import signals
from include.beam.live import TOPICS
from local.dataflow.__main__ import IMAGES
from local.dataflow.templates import filled, read_images
from local.ports import free_ports

ROOT = Path(__file__).parents[1]
PROJECT, START_S = "madhatter", 90
WARM_S = 15  # before measuring: start, first bundles, caches
AT_ONCE = {
    "order_velocity",
    "unusual_amount",
    "failed_payments",
    "impossible_travel",
    "low_stock",
    "sensor_out_of_range",
}


@dataclass
class Run:
    """What is seen of a run. ends: (wall clock, messages in the log), every half second; notices: the job's."""

    ends: list[tuple[float, int]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    def lags(self) -> list[tuple[float, int]]:
        """(wall clock, messages not read) at each notice."""
        found, read = [], 0
        for notice in self.notices:
            at = datetime.fromisoformat(notice["written_ts"]).timestamp()
            read += notice["events"]
            before = [count for when, count in self.ends if when <= at]
            if before:
                found.append((at, before[-1] - read))
        return found


@contextmanager
def process(command: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[psutil.Popen]:
    """A process that ends with its block, with all below it."""
    with log.open("wb") as out:
        started = psutil.Popen(command, cwd=ROOT, stdout=out, stderr=out, env={**os.environ, **(env or {})})
    try:
        yield started
    finally:
        for one in (*started.children(recursive=True), started):
            if one.is_running():
                one.kill()
        started.wait()


def cpu_s(one: psutil.Process) -> float:
    """Seconds of CPU that a process has used, in all its threads."""
    used = one.cpu_times()
    return float(used.user + used.system)


def ends(bootstrap: str) -> Iterator[int]:
    """Messages in the job's topics, asked anew each time."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"})
    places = [TopicPartition(t, p) for t in TOPICS for p in consumer.list_topics(t, timeout=10).topics[t].partitions]
    while True:
        yield sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)


def measure(rate: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Runs everything; returns the figures."""
    from local.simulator.events import TOPICS as ALL

    with ExitStack() as stack:
        bootstrap = stack.enter_context(broker.running(folder))
        for topic in ALL:
            broker.create_topic(bootstrap, topic, 4 if topic in TOPICS[:3] else 2)
        port, http = free_ports(2)
        pubsub = [sys.executable, "-m", "local.pubsub", "--port", f"{port}", "--http-port", f"{http}"]
        pubsub += ["--state", str(folder / "pubsub")]
        stack.enter_context(process(pubsub, folder / "pubsub.log"))
        os.environ["PUBSUB_EMULATOR_HOST"] = f"127.0.0.1:{port}"
        grpc.channel_ready_future(grpc.insecure_channel(f"127.0.0.1:{port}")).result(timeout=START_S)
        subscriber = _subscribed()
        store = folder / "store"
        store.mkdir()
        flags = [f"--bootstrap_servers={bootstrap}", f"--store={store.as_uri()}", f"--project={PROJECT}"]
        flags += filled(read_images(IMAGES)["live"].options)
        job = stack.enter_context(process([sys.executable, "-m", "include.beam.live", *flags], folder / "live.log"))
        sender = [sys.executable, "-m", "local.simulator.live", "--bootstrap", bootstrap, "--rate", f"{rate}"]
        generator = stack.enter_context(process(sender, folder / "simulator.log"))
        asked = ends(bootstrap)
        run = Run()
        deadline = time.time() + START_S
        while not run.notices:
            if job.poll() is not None or time.time() > deadline:
                raise RuntimeError(f"the job tells nothing: {(folder / 'live.log').read_text()[-3000:]}")
            _look(run, subscriber, asked)
        _wait(run, subscriber, asked, WARM_S)
        java = next(one for one in psutil.Process().children() if "java" in one.name())
        prism = next(one for one in job.children(recursive=True) if one.name() == "prism")
        watched = {"worker": job, "prism": prism, "broker": java, "generator": generator}
        started, before = time.time(), {name: cpu_s(one) for name, one in watched.items()}
        first = next(asked)
        run.latencies_s.clear()
        _wait(run, subscriber, asked, seconds)
        wall = time.time() - started
        used = {name: cpu_s(one) - before[name] for name, one in watched.items()}
        memory = {name: one.memory_info().rss / 1e6 for name, one in watched.items()}
        events = next(asked) - first
        lags = [(at - started, lag) for at, lag in run.lags() if at >= started - 10]
        plain_s, plain_events = plain(bootstrap, 20)
    taken = sorted(run.latencies_s)
    return {
        "events_s": round(events / wall),
        "lag_events": [lag for _, lag in lags],
        "lag_s": [round(lag / (events / wall), 2) for _, lag in lags],
        "cpu_percent": {name: round(100 * seconds_ / wall) for name, seconds_ in used.items()},
        "rss_mb": {name: round(size) for name, size in memory.items()},
        "events_a_cpu_s": {
            "job (prism and worker)": round(events / (used["worker"] + used["prism"])),
            "plain consumer": round(plain_events / plain_s),
        },
        "signal_latency_s": {f"p{p}": round(taken[len(taken) * p // 100], 3) for p in (50, 95, 99)} if taken else {},
        "signals": len(taken),
    }


def plain(bootstrap: str, most_s: float) -> tuple[float, int]:
    """(CPU seconds, events) of a consumer that parses each message and checks two fields."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "plain", "enable.auto.commit": False})
    places = [
        TopicPartition(t, p, OFFSET_BEGINNING) for t in TOPICS for p in consumer.list_topics(t).topics[t].partitions
    ]
    consumer.assign(places)
    count, started, until = 0, time.process_time(), time.time() + most_s
    while time.time() < until:
        for message in consumer.consume(1_000, 0.1):
            if message.error():
                continue
            count += 1
            try:
                event = json.loads(message.value() or b"")
                behind_s = message.timestamp()[1] / 1000 - datetime.fromisoformat(event["event_ts"]).timestamp()
                assert isinstance(event["event_id"], str)
                assert -300 <= behind_s <= 60
            except (ValueError, KeyError, TypeError, AssertionError):
                pass
    consumer.close()
    return time.process_time() - started, count


def _subscribed() -> Any:
    from google.cloud import pubsub_v1  # type: ignore[attr-defined]

    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    for topic in (*sorted(set(signals.TOPICS.values())), "live.batches", "live.dead_letters"):
        name = publisher.topic_path(PROJECT, topic)
        publisher.create_topic(name=name)
        subscriber.create_subscription(name=f"projects/{PROJECT}/subscriptions/{topic}", topic=name)
    return subscriber


def _wait(run: Run, subscriber: Any, asked: Iterator[int], seconds: float) -> None:
    until = time.time() + seconds
    while time.time() < until:
        _look(run, subscriber, asked)


def _look(run: Run, subscriber: Any, asked: Iterator[int]) -> None:
    """Once a half second: the log's ends, the job's notices and signals."""
    run.ends.append((time.time(), next(asked)))
    for topic in (*sorted(set(signals.TOPICS.values())), "live.batches"):
        name = f"projects/{PROJECT}/subscriptions/{topic}"
        received = subscriber.pull(subscription=name, max_messages=1000, return_immediately=True).received_messages
        for one in received:
            said = json.loads(one.message.data)
            if topic == "live.batches":
                run.notices.append(said)
            elif said["kind"] in AT_ONCE:
                arrived = datetime.fromisoformat(said["arrival_ts"]).timestamp()
                run.latencies_s.append(one.message.publish_time.timestamp() - arrived)
        if received:
            subscriber.acknowledge(subscription=name, ack_ids=[one.ack_id for one in received])
    time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.live", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rate", type=int, default=40_000, help="events a second over all topics")
    parser.add_argument("--seconds", type=int, default=60, help="measured, after some to warm up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options.rate, options.seconds, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
