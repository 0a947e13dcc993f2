"""Messages of one topic through a broker, a pipeline and a warehouse of their own, as one slice.

python -m tests.pipeline.one_slice TOPIC FOLDER < lines

Prints one JSON object: the rows of the topic's tables, the dead letters' reasons and the reconciliation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import Producer

from include import references
from include.beam import hourly
from include.beam.plan import Manifest, Plan, cut
from include.contracts.contract import contract
from local.instance import Instance
from local.snowflake.client import connect
from madhatter import audit, kafka, ledger, publish, staging
from madhatter.warehouse import Warehouse
from tests.stand_ins import Broker, Snowflake

SLICE = "hour-20110104t100000"


def serve(topic: str, folder: Path) -> int:
    """Starts the stand-ins and runs the slice in a process that has an instance's settings from its first import on."""
    for name in ("broker", "snowflake"):
        (folder / name).mkdir()
    broker, snowflake = Broker(folder / "broker"), Snowflake(folder / "snowflake")
    try:
        broker.start()
        snowflake.start()
        command = [sys.executable, "-m", __spec__.name, topic, str(folder), broker.bootstrap, str(snowflake.port)]
        env = Instance(snowflake.folder / "instance", snowflake.base).environment()
        return subprocess.run(command, env=env, check=False).returncode
    finally:
        for one in (broker, snowflake):
            if one.started:
                one.end()


def run(topic: str, store: Path, values: list[bytes], bootstrap: str, warehouse: Warehouse) -> dict[str, object]:
    """The slice; returns what came of it."""
    client = kafka.admin({"bootstrap.servers": bootstrap})
    kafka.create_topics(client, [topic])
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0
    now = datetime.now(UTC)
    planned = ledger.plan(
        warehouse,
        SLICE,
        "hour",
        (now, now),
        lambda last: kafka.next_claims({"bootstrap.servers": bootstrap}, [topic], now + timedelta(hours=1), last),
    )
    chunks = tuple(k for c in planned.claims for k in cut(SLICE, c.topic, c.partition, c.start, c.end, 1000))
    uri = Plan(SLICE, store.as_uri(), chunks, references.pin(store.as_uri())).write()
    hourly.main(["--plan", uri, "--bootstrap_servers", bootstrap, "--runner=FnApiRunner"])
    manifest = Manifest.read(store.as_uri(), SLICE)
    with warehouse.transaction():
        staging.stage(warehouse, store.as_uri(), manifest)
        ledger.set_state(warehouse, SLICE, "audited")
    verdicts = audit.audit("snowflake_default", SLICE, manifest.topics())
    with warehouse.transaction():
        publish.publish(warehouse, SLICE, {SLICE: manifest.hours().get(SLICE, [])})
    return {
        "tables": {table.name: warehouse.rows(f"select * from {table.core}") for table in contract(topic).tables},
        "reasons": [row["reason"] for row in warehouse.rows("select reason from ops.dead_letter")],
        "broken": [verdict.rule for verdict in verdicts if verdict.outcome == "broken"],
        "reconciliation": warehouse.rows("select * from ops.reconciliation where partition = 0"),
    }


if __name__ == "__main__":
    topic, folder, *places = sys.argv[1:]
    if not places:
        sys.exit(serve(topic, Path(folder)))
    values = sys.stdin.buffer.read().splitlines()
    found = run(topic, Path(folder) / "store", values, places[0], Warehouse(connect(int(places[1]))))
    sys.stdout.write(json.dumps(found, default=str) + "\n")
