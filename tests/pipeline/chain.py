"""A slice step by step on a real warehouse: the log is a list in memory, all else is the platform's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.beam.archive import ArchiveReader
from include.beam.plan import Chunk, Manifest, Plan, Source, cut
from include.beam.sink import write_chunk
from include.beam.source import Records
from include.contracts.contract import models
from madhatter import backfill, ledger, planning, publish, slices, staging
from madhatter.backfill import Request
from madhatter.slices import Place
from madhatter.warehouse import Warehouse

TOPIC = "sales.orders"
WINDOW = (datetime(2011, 1, 4, 10, tzinfo=UTC), datetime(2011, 1, 4, 11, tzinfo=UTC))
LINE = {"line_no": 1, "product_id": "22752", "description": "SET 7 BABUSHKA NESTING BOXES"}
MODELS = tuple(model.table.name for model in models())
TABLES = {
    "core": (*MODELS, "product", "customer"),
    "marts": (
        "sales_hourly",
        "sales_category_hourly",
        "sales_loyalty_hourly",
        "sales_daily",
        "sales_category_daily",
        "product_daily",
        "customer_daily",
        "support_daily",
        "customer_segment",
        "cohort_monthly",
        "product_affinity",
        "stock_cover",
        "session",
        "funnel_hourly",
        "performance_hourly",
        "performance_daily",
        "stock_hourly",
        "sensor_hourly",
        "support_hourly",
        "sales_minute",
        "activity_minute",
    ),
    "live": ("sales_minute", "activity_minute", "batch"),
    "ops": ("slice", "slice_partition", "slice_hour", "dead_letter", "erased", "day", "forced", "fix", "live_check"),
    "staging": (
        *MODELS,
        "dead_letter",
        "session_scope",
        "touched_slice",
        "touched_hour",
        "touched_product",
        "touched_customer",
    ),
}
Claimer = Callable[[dict[slices.Place, slices.Claim]], list[slices.Claim]]
CLOCK_COLUMNS = (
    "planned_ts",
    "committed_ts",
    "published_ts",
    "taken_ts",
    "rolled_up_ts",
    "forced_ts",
    "decided_ts",
    "resolved_ts",
    "corrected_ts",
    "checked_ts",
)


def order(order_id: str, event_ts: str = "2011-01-04T10:00:00Z", **changes: Any) -> bytes:
    """An event with one line of two pieces at 7.65. quantity, unit_price, description and product_id go to the line."""
    line = {**LINE, "quantity": 2, "unit_price": 7.65} | {
        name: changes.pop(name) for name in ("quantity", "unit_price", "description", "product_id") if name in changes
    }
    event = {
        "event_id": f"order:{order_id}",
        "event_ts": event_ts,
        "order_id": order_id,
        "order_type": "sale",
        "customer_id": "17850",
        "country": "United Kingdom",
        "channel": "web",
        "currency": "GBP",
        "lines": [line],
    }
    return json.dumps(event | changes).encode()


class Chain:
    """The log, and the steps from the plan to the publication. None in the log is an offset without a record."""

    def __init__(self, warehouse: Warehouse, folder: Path, partitions: int = 2, chunk_size: int = 5) -> None:
        self.warehouse, self.store, self.chunk_size = warehouse, folder.as_uri(), chunk_size
        self.folder, self.window = folder, WINDOW
        self.log: dict[Place, list[bytes | None]] = {(TOPIC, partition): [] for partition in range(partitions)}

    def send(self, partition: int, *values: bytes | None, topic: str = TOPIC) -> None:
        self.log.setdefault((topic, partition), []).extend(values)

    def plan(self, slice_id: str, warehouse: Warehouse | None = None, claim: Claimer | None = None) -> ledger.Slice:
        """claim: from the newest claims to the next ones; by default over the log in memory."""
        now = {place: slices.PartitionLog("id", 0, 0, len(log), None) for place, log in self.log.items()}
        planned = ledger.plan(
            warehouse or self.warehouse, slice_id, "hour", self.window, claim or (lambda last: slices.claim(now, last))
        )
        chunks = [
            k for c in planned.claims for k in cut(slice_id, c.topic, c.partition, c.start, c.end, self.chunk_size)
        ]
        pins = planning.pin(warehouse or self.warehouse, self.store, planned)
        Plan(slice_id, self.store, tuple(chunks), pins).write()
        return planned

    def transform(self, load_id: str) -> Manifest:
        planned = Plan.read(f"{self.store}/loads/{load_id}/plan.json")
        read = ArchiveReader(self.store).read if planned.source == "archive" else self.read
        results = [write_chunk(planned, chunk, read(chunk)) for chunk in planned.chunks]
        manifest = Manifest(load_id, tuple(results), 0.1)
        manifest.write(self.store)
        return manifest

    def read(self, chunk: Chunk) -> Records:
        """What the log has of a chunk."""
        records = Records()
        for offset, value in enumerate(self.log[chunk.topic, chunk.partition][chunk.start : chunk.end], chunk.start):
            if value is not None:
                records.offsets.append(offset)
                records.arrivals_ms.append(1_795_431_186_000 + offset)
                records.keys.append(b"17850")
                records.values.append(value)
        return records

    def stage(self, slice_id: str, manifest: Manifest | None = None, state: str = "audited") -> None:
        """state: what the audit makes of it."""
        with self.warehouse.transaction():
            staging.stage(self.warehouse, self.store, manifest or Manifest.read(self.store, slice_id))
            ledger.set_state(self.warehouse, slice_id, state)

    def publish(self, load_id: str, slices: Sequence[str] = ()) -> None:
        """slices: of the load, by default the one whose id it has."""
        hours = Manifest.read(self.store, load_id).hours()
        with self.warehouse.transaction():
            publish.publish(self.warehouse, load_id, {one: hours.get(one, []) for one in slices or [load_id]})

    def replay(self, source: Source, end: datetime = WINDOW[1]) -> list[dict[str, Any]]:
        """Everything that was committed, once more, as retail_backfill does it; returns the loads."""
        asked = Request("replay", WINDOW[0], end, source)
        loads = list(backfill.replay(self.warehouse, self.store, asked, "run", "nowhere:9092", self.chunk_size))
        for load in loads:
            self.transform(load["load_id"])
            self.stage(load["load_id"])
            self.publish(load["load_id"], load["slices"])
        return loads

    def staged(self, slice_id: str, claim: Claimer | None = None) -> Manifest:
        """All up to the publication."""
        self.plan(slice_id, claim=claim)
        manifest = self.transform(slice_id)
        self.stage(slice_id)
        return manifest

    def run(self, slice_id: str, claim: Claimer | None = None) -> Manifest:
        """All steps."""
        manifest = self.staged(slice_id, claim)
        self.publish(slice_id)
        return manifest

    def file(self, slice_id: str, table: str) -> Path:
        """The first file of a table."""
        return sorted((self.folder / "loads" / slice_id / table).glob("*.parquet"))[0]

    def content(self, *schemas: str) -> dict[str, list[str]]:
        """All rows of the schemas' tables but for the times at which something was done."""
        found = {}
        for schema in schemas or ("core", "marts", "ops"):
            for table in TABLES[schema]:
                rows = self.warehouse.rows(f"select * from {schema}.{table}")
                kept = [{k: v for k, v in row.items() if k not in CLOCK_COLUMNS} for row in rows]
                found[f"{schema}.{table}"] = sorted(map(repr, kept))
        return found

    def counts(self, slice_id: str) -> dict[int, tuple[int, ...]]:
        """Partition -> delivered, holes, published, duplicates, dead letters, erased."""
        names = ("delivered", "holes", "published", "duplicates", "dead_letters", "erased")
        rows = self.warehouse.rows("select * from ops.slice_partition where slice_id = :s", s=slice_id)
        return {row["partition"]: tuple(row[name] for name in names) for row in rows}

    def state(self, slice_id: str) -> str:
        (row,) = self.warehouse.rows("select state from ops.slice where slice_id = :s", s=slice_id)
        return str(row["state"])

    def is_balanced(self) -> bool:
        rows = self.warehouse.rows("select is_balanced from ops.reconciliation")
        return bool(rows) and all(row["is_balanced"] for row in rows)


def empty_chain(session: Warehouse, folder: Path) -> Chain:
    """A chain over an empty log and empty tables."""
    with session.transaction():
        for schema, tables in TABLES.items():
            for table in tables:
                session.run(f"delete from {schema}.{table}")
    return Chain(session, folder)
