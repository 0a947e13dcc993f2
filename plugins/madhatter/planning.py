"""Plans one slice: claims offsets in the ledger and writes the plan that the pipeline reads."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from madhatter.kafka import CONNECTION as KAFKA
from madhatter.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from include.beam.plan import Chunk, Source
    from madhatter.ledger import Kind, Slice
    from madhatter.slices import Place
    from madhatter.warehouse import Warehouse


class PlanSlice(BaseOperator):
    """Claims what arrived in the run's window; returns it as a load (`write`). Run again it returns the same slice and
    has it computed anew.

    Far behind the clock, the oldest window takes everything up to the newest closed one and the windows in between
    get empty slices."""

    def __init__(self, *, kafka_conn_id: str = KAFKA, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from madhatter import warehouse
        from madhatter.partitions import window

        began = time.monotonic()
        own = window(context)
        until = reach(own.end, own.closes, datetime.now(UTC))
        with warehouse.session(context) as session:
            load = plan(session, hour_id(own.start), "hour", (own.start, own.end), until, self.kafka_conn_id, began)
        self.log.info("slice %s: %s offsets", load["load_id"], load["offsets"])
        return load


def plan(
    warehouse: Warehouse,
    slice_id: str,
    kind: Kind,
    window: tuple[datetime, datetime],
    until: datetime,
    kafka_conn_id: str,
    began: float,
) -> dict[str, Any]:
    """Claims what arrived before `until` and nobody has claimed, as a slice, and writes its plan; returns its load.
    began: time.monotonic() when the task began. Fails the task for good when the log is not the one that was known."""
    from airflow.sdk.exceptions import AirflowFailException

    from include.beam.plan import cut
    from include.contracts.contract import topics
    from madhatter import kafka, ledger, slices

    client = kafka.client_settings(kafka_conn_id)
    try:
        # The log is read under the plan lock: read before it, it may end before what another planner has claimed.
        planned = ledger.plan(
            warehouse, slice_id, kind, window, lambda last: kafka.next_claims(client, topics(), until, last)
        )
    except slices.LogError as error:
        raise AirflowFailException(str(error)) from error  # the log does not mend itself
    size = settings().chunk_size
    chunks = [k for c in planned.claims for k in cut(slice_id, c.topic, c.partition, c.start, c.end, size)]
    store = settings().store
    load = write(
        store,
        slice_id,
        [slice_id],
        with_fixes(warehouse, [slice_id], chunks),
        pin(warehouse, store, planned),
        client["bootstrap.servers"],
    )
    warehouse.run("update ops.slice set plan_uri = :uri where slice_id = :id", uri=load["plan_uri"], id=slice_id)
    ledger.record_seconds(warehouse, slice_id, "plan", time.monotonic() - began)
    return load


def write(
    store: str,
    load_id: str,
    slices: list[str],
    chunks: Iterable[Chunk],
    references: Mapping[str, str],
    bootstrap_servers: str,
    source: Source = "kafka",
) -> dict[str, Any]:
    """Writes a load's plan, so that it is computed anew. Returns what the next steps take: {"load_id", "slices",
    "plan_uri", "manifest_uri", "offsets", "parameters"}, the last for the pipeline's template."""
    from include import storage
    from include.beam.plan import Manifest, Plan

    own = Plan(load_id, store, tuple(chunks), references, source)
    uri = own.write()
    # Without its manifest a finished job does not count: whoever clears from here wants it computed again.
    manifest = Manifest.uri(store, load_id)
    storage.remove(manifest)
    if not own.chunks:
        Manifest(load_id, (), 0).write(store)  # nothing to transform: no job is started
    return {
        "load_id": load_id,
        "slices": slices,
        "plan_uri": uri,
        "manifest_uri": manifest,
        "offsets": sum(chunk.end - chunk.start for chunk in own.chunks),
        "parameters": {"plan": uri, "bootstrap_servers": bootstrap_servers},
    }


def with_fixes(warehouse: Warehouse, slices: list[str], chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The chunks of these slices with the fixes that were decided for their dead letters."""
    from madhatter.warehouse import json_list

    rows = warehouse.rows(
        "select topic, partition, offset, rule_name from ops.fix where coalesce(outcome, '') <> 'rejected' "
        "and slice_id in (select value::varchar from table(flatten(input => parse_json(:slices)))) order by offset",
        slices=json_list(slices),
    )
    fixes: dict[Place, list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        fixes[row["topic"], row["partition"]].append((row["offset"], row["rule_name"]))
    for chunk in chunks:
        own = [fix for fix in fixes[chunk.topic, chunk.partition] if chunk.start <= fix[0] < chunk.end]
        yield replace(chunk, fixes=tuple(own)) if own else chunk


def pin(warehouse: Warehouse, store: str, planned: Slice) -> dict[str, str]:
    """The references that a slice is enriched from, {name: URI}: planned again, those that it was enriched from at
    first, and what has been added since."""
    from include import references

    pins = {**references.pin(store), **planned.pins}
    if pins != planned.pins:
        warehouse.run(
            "update ops.slice set pins = :pins where slice_id = :id", pins=json.dumps(pins), id=planned.slice_id
        )
    return pins


def reach(end: datetime, closes: datetime, now: datetime) -> datetime:
    """The arrival time up to which a window's slice reads: its own close, or the newest closed one when it is far
    behind the clock."""
    config = settings()
    if now - closes <= config.catch_up_after:
        return closes
    windows_since: int = (now - config.tail - end) // config.window
    return end + windows_since * config.window + config.tail


def hour_id(start: datetime) -> str:
    """A window's slice id, which is also a Dataflow job name."""
    return f"hour-{start.astimezone(UTC):%Y%m%dt%H%M%S}"
