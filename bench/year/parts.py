"""A broker and a warehouse of the benchmark's own, with the platform's migrations and topics, and no Airflow."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from local.instance import OWN, ROOT, Instance
from local.kafka import broker
from local.migrate import migrate
from local.ports import free_port_base, in_use

START_S = 60
# Not the product's: what a broker does every five minutes and after one, here every few seconds of a day that takes
# half a minute.
BROKER = """
log.retention.check.interval.ms=3000
log.segment.delete.delay.ms=1000
"""


@dataclass(frozen=True)
class Parts:
    """What runs. broker_data, warehouse_data, store: their folders; warehouse_pid: of the process."""

    instance: Instance
    warehouse_pid: int

    @property
    def broker_data(self) -> Path:
        return self.instance.data / "kafka"

    @property
    def warehouse_data(self) -> Path:
        return self.instance.data / "warehouse"

    @property
    def store(self) -> Path:
        return self.instance.data / "store"


def instance_in(home: Path, kept: Mapping[str, int]) -> Instance:
    """An instance in `home`, with free ports, that keeps things for so many days. kept: MADHATTER_KEEP_..._DAYS. What
    is said of another one in this process's environment is forgotten."""
    for name in [name for name in os.environ if name.startswith(OWN)]:
        del os.environ[name]
    days = {f"MADHATTER_KEEP_{what}_DAYS": f"{days}" for what, days in kept.items()}
    os.environ.update(days | {"MADHATTER_KEEP_LOG_MB": "0"})
    instance = Instance(home, free_port_base())
    (instance.data / "store").mkdir(parents=True, exist_ok=True)
    return instance


@contextmanager
def running(instance: Instance) -> Iterator[Parts]:
    """Broker and warehouse while the block runs. Raises RuntimeError with the last words of what does not start."""
    config, data = instance.run / "server.properties", instance.data / "kafka"
    broker.prepare(
        instance.env,
        config,
        data,
        instance.secrets.cluster_id,
        instance.port("kafka"),
        instance.port("kafka_controller"),
    )
    config.write_text(config.read_text() + BROKER)
    place = ["--port", f"{instance.port('warehouse')}", "--data", f"{instance.data / 'warehouse'}"]
    commands = {
        "kafka": broker.command(instance.env, config, data),
        "warehouse": [str(instance.warehouse_python), "-m", "local.snowflake", *place],
    }
    started: dict[str, subprocess.Popen[bytes]] = {}
    instance.logs.mkdir(parents=True, exist_ok=True)
    try:
        for name, command in commands.items():
            with (instance.logs / name).open("wb") as log:
                started[name] = subprocess.Popen(
                    command, cwd=ROOT, env=instance.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
        deadline = time.monotonic() + START_S
        while not (broker.answers(instance.port("kafka")) and in_use(instance.port("warehouse"))):
            for name, process in started.items():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} does not start: {(instance.logs / name).read_text()[-2000:]}")
            time.sleep(0.1)
        migrate(instance)
        yield Parts(instance, started["warehouse"].pid)
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()


def create_topics(instance: Instance) -> None:
    """The contracts' topics; returns when they have leaders."""
    from include.contracts.contract import topics
    from madhatter import kafka

    client = kafka.admin({"bootstrap.servers": instance.bootstrap})
    kafka.create_topics(client, topics())
    deadline = time.monotonic() + START_S
    while True:
        try:
            kafka.read_log(client, topics(), datetime.now(UTC))
            return
        except (kafka.TopicsMissing, kafka.BrokerDown):  # a broker that has just created them
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@dataclass(frozen=True)
class Size:
    """What there is, in bytes, files and rows. log: the broker's folder, by what it takes on the disk (its indexes are
    files with holes); segments: its segments; memory: the warehouse process."""

    store: int
    files: int
    staged: int
    warehouse: int
    log: int
    segments: int
    memory: int


def measure(parts: Parts) -> Size:
    """The sizes now."""
    from include.contracts.contract import models
    from madhatter import warehouse

    tables = [*(model.table.name for model in models()), "dead_letter"]
    counts = " union all ".join(f"select count(*) as n from staging.{table}" for table in tables)
    with warehouse.session() as session:
        (row,) = session.rows(f"select sum(n) as n from ({counts})")
    stored, logged = _files(parts.store), _files(parts.broker_data)
    return Size(
        sum(found.st_size for _, found in stored),
        len(stored),
        int(row["n"]),
        sum(found.st_size for _, found in _files(parts.warehouse_data)),
        sum(found.st_blocks * 512 for _, found in logged),
        sum(path.suffix == ".log" for path, _ in logged),
        psutil.Process(parts.warehouse_pid).memory_info().rss,
    )


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                found.append((path, path.stat()))
            except FileNotFoundError:  # the broker removes some meanwhile
                continue
    return found
