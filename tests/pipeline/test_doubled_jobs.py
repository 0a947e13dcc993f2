"""Two jobs over one plan, one killed half way, one that ends after all is published: one set of rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer

from include.beam.plan import Plan
from local.instance import ROOT
from madhatter import kafka, slices
from tests.pipeline.chain import TOPIC, Chain, order
from tests.stand_ins import Broker, until

SLICE = "hour-20110104t100000"
COUNT = 200


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test's own with orders in two partitions, some twice, some broken."""
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    broker.start()
    kafka.create_topics(broker.admin, [TOPIC])
    broker.wait_for_leaders(TOPIC)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(COUNT):
        value = b"{broken" if number % 20 == 7 else order(f"A{number - number % 10 // 9}")
        producer.produce(TOPIC, value, b"17850", number % 2)
    assert producer.flush(30) == 0
    yield broker
    broker.end()


class Job:
    """A pipeline's process over a plan."""

    def __init__(self, plan: str, bootstrap: str) -> None:
        module = [sys.executable, "-m", "include.beam.hourly", "--runner=FnApiRunner"]
        command = [*module, "--plan", plan, "--bootstrap_servers", bootstrap]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)

    def send(self, number: signal.Signals) -> None:
        """Asserts that it was still at work."""
        assert self.process.poll() is None
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def test_doubled_killed_and_late_jobs_leave_no_extra_row(chain: Chain, log: Broker) -> None:
    chain.chunk_size = 1
    end = datetime.now(UTC) + timedelta(hours=1)
    chain.plan(SLICE, claim=lambda last: slices.claim(kafka.read_log(log.admin, [TOPIC], end), last))
    folder = chain.folder / "loads" / SLICE
    jobs = [Job(Plan.uri(chain.store, SLICE), log.bootstrap) for _ in range(2)]
    try:
        killed, late = jobs
        wait_for_files(folder, COUNT // 10)
        killed.send(signal.SIGKILL)
        late.send(signal.SIGSTOP)
        assert not (folder / "manifest.json").exists()
        jobs.append(Job(Plan.uri(chain.store, SLICE), log.bootstrap))
        assert jobs[-1].process.wait(120) == 0
        chain.stage(SLICE)
        chain.publish(SLICE)
        before, files = chain.content(), contents(folder)
        assert chain.is_balanced()
        delivered, _, published, duplicates, dead_letters, _ = map(sum, zip(*chain.counts(SLICE).values(), strict=True))
        assert (delivered, published, duplicates, dead_letters) == (COUNT, 170, 20, 10)
        late.send(signal.SIGCONT)
        assert late.process.wait(120) == 0
    finally:
        for job in jobs:
            job.end()
    assert contents(folder) == files
    chain.stage(SLICE)
    chain.publish(SLICE)
    assert chain.content() == before


def wait_for_files(folder: Path, count: int) -> None:
    until(lambda: len(list(folder.glob("order_header/*.parquet"))) >= count, "the first files are written")


def contents(folder: Path) -> dict[str, bytes]:
    """Every Parquet file of a slice."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.parquet")}
