"""A broker that lives as long as its block, with ports and a folder of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.kafka import broker
from local.ports import free_ports

START_S = 60


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The bootstrap address of a fresh broker that keeps its log in folder. Raises RuntimeError with the log's end."""
    port, controller_port = free_ports(2)
    env, config, data = Path(sys.prefix).parent, folder / "server.properties", folder / "data"
    broker.prepare(env, config, data, "YmVuY2gtYmVuY2gtYmVuYw", port, controller_port)
    log = folder / "broker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(broker.command(env, config, data), stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while not broker.answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the benchmark's broker does not answer on port {port}:\n{log.read_text()[-2000:]}")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def create_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Creates a topic with arrival times set by the broker; returns when it has leaders."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    config = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result()
