"""The same hour without Beam: confluent-kafka, DuckDB and pyarrow in one loop, chunk after chunk."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from confluent_kafka import Consumer, TopicPartition

CHUNK_SIZE = 100_000
PARTITIONS = 4
STRUCT = {
    "event_id": "VARCHAR",
    "event_type": "VARCHAR",
    "event_ts": "VARCHAR",
    "ingest_ts": "VARCHAR",
    "customer_id": "BIGINT",
    "source": "VARCHAR",
    "product_id": "VARCHAR",
    "session_id": "VARCHAR",
    "page": "VARCHAR",
    "device": {"os": "VARCHAR", "browser": "VARCHAR"},
    "referrer": "VARCHAR",
    "dwell_ms": "BIGINT",
    "order_id": "VARCHAR",
    "quantity": "BIGINT",
    "unit_price": "DOUBLE",
    "currency": "VARCHAR",
    "payment_method": "VARCHAR",
    "ship_country": "VARCHAR",
}
QUERY = """
with parsed as (
    select line, "offset", case when json_valid(line) then json_transform(line, $struct) end as r from lines
)
select
    case
        when r is null then 'not JSON'
        when r.event_id is null then 'event_id is missing'
        when r.event_type is null or r.event_type not in ('click', 'order') then 'event_type is unknown'
        when try_cast(r.event_ts as timestamp) is null then 'event_ts is no time'
        when try_cast(r.ingest_ts as timestamp) is null then 'ingest_ts is no time'
        when r.customer_id is null or r.customer_id < 1 then 'customer_id is below 1'
        when r.product_id is null then 'product_id is missing'
    end as reason,
    line, "offset", r.event_id, r.event_type,
    try_cast(r.event_ts as timestamp) as event_ts, try_cast(r.ingest_ts as timestamp) as ingest_ts,
    r.customer_id, r.source, r.product_id, r.session_id, r.page, r.device.os, r.device.browser, r.referrer,
    r.dwell_ms, r.order_id, r.quantity, r.unit_price, r.currency, r.payment_method, r.ship_country
from parsed
""".replace("$struct", f"'{json.dumps(STRUCT)}'")


def run(bootstrap: str, topic: str, out: Path) -> None:
    """Writes out/good/*.parquet and out/rejected/*.parquet."""
    for name in ("good", "rejected"):
        (out / name).mkdir(parents=True, exist_ok=True)
    duck = duckdb.connect(config={"threads": 2})
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "fetch.min.bytes": 1_000_000,
            "fetch.wait.max.ms": 20,
            "fetch.message.max.bytes": 16_777_216,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 262_144,
        }
    )
    for partition in range(PARTITIONS):
        start, end = consumer.get_watermark_offsets(TopicPartition(topic, partition))
        if start == end:
            continue
        consumer.assign([TopicPartition(topic, partition, start)])
        for at in range(start, end, CHUNK_SIZE):
            lines = _read(consumer, min(at + CHUNK_SIZE, end) - at)
            _write(duck, lines, out, f"{partition}-{at}.parquet")
    consumer.close()


def _read(consumer: Consumer, count: int) -> pa.Table:
    """The next count messages of the assigned partition, which holds no gaps."""
    values: list[bytes | None] = []
    offsets: list[int | None] = []
    while len(values) < count:
        for message in consumer.consume(min(20_000, count - len(values)), 0.5):
            if error := message.error():
                raise RuntimeError(f"plain Python: {error.str()}")
            values.append(message.value())
            offsets.append(message.offset())
    return pa.table({"line": pa.array(values, pa.binary()).cast(pa.string()), "offset": pa.array(offsets, pa.int64())})


def _write(duck: duckdb.DuckDBPyConnection, lines: pa.Table, out: Path, name: str) -> None:
    duck.register("lines", lines)
    rows = duck.sql(QUERY).to_arrow_table()
    is_bad = rows["reason"].is_valid()
    good = rows.filter(pc.invert(is_bad)).drop_columns(["reason", "line"])
    rejected = rows.filter(is_bad).select(["reason", "line", "offset"])
    pq.write_table(good, out / "good" / name, compression="zstd", compression_level=1)
    pq.write_table(rejected, out / "rejected" / name, compression="zstd", compression_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("out", type=Path)
    known = parser.parse_args()
    wall, cpu = time.monotonic(), time.process_time()
    run(known.bootstrap, known.topic, known.out)
    print(json.dumps({"name": "", "wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
