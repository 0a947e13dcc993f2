"""The platform's own pipeline on FnApiRunner, started as a job starts it: a plan, then `hourly.main`."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from bench import contract
from include import references
from include.beam import archive, hourly
from include.beam.plan import Plan, cut

CHUNK_SIZE = 100_000  # as in plugins/madhatter/settings.py


def plan(bootstrap: str, partitions: int, store: str, chunk_size: int) -> Plan:
    """All offsets of the topic as one slice."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"})
    ends = [consumer.get_watermark_offsets(TopicPartition(contract.TOPIC, p)) for p in range(partitions)]
    consumer.close()
    chunks = [c for p, (start, end) in enumerate(ends) for c in cut("bench", contract.TOPIC, p, start, end, chunk_size)]
    return Plan("bench", store, tuple(chunks), references.pin(store))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("out", type=Path)
    parser.add_argument("--no-archive", action="store_true", help="leave out the copy of the raw bytes")
    parser.add_argument("--chunk-size", type=int, default=CHUNK_SIZE)
    known = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    contract.register()
    if known.no_archive:
        archive.write = lambda *_: None
    uri = plan(known.bootstrap, 4, known.out.absolute().as_uri(), known.chunk_size).write()
    wall, cpu = time.monotonic(), time.process_time()
    hourly.main(["--plan", uri, "--bootstrap_servers", known.bootstrap, "--runner=FnApiRunner"])
    print(json.dumps({"name": "", "wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
