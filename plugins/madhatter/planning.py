"""Plans one slice: claims offsets in the ledger and writes the plan that the pipeline reads."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator, Context

from madhatter.kafka import CONNECTION as KAFKA
from madhatter.settings import settings

log = logging.getLogger(__name__)


class PlanSlice(BaseOperator):
    """Returns {"slice_id", "plan_uri", "manifest_uri", "offsets", "parameters"}, the last for the template. Run again
    it returns the same slice and has it computed anew.

    Far behind the clock, the oldest window takes everything up to the newest closed one and the windows in between
    get empty slices."""

    def __init__(self, *, kind: str = "hour", kafka_conn_id: str = KAFKA, **kwargs: Any) -> None:
        # Each value is an XCom of its own too: plan.output["slice_id"].
        super().__init__(multiple_outputs=True, **kwargs)
        self.kind, self.kafka_conn_id = kind, kafka_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowFailException

        from include import storage
        from include.beam.plan import Manifest, Plan, cut
        from include.contracts.contract import topics
        from madhatter import kafka, ledger, slices, warehouse

        began = time.monotonic()
        slice_id, start, end, until = self.window(context)
        client = kafka.client_settings(self.kafka_conn_id)
        with warehouse.session(context) as session:
            kind: ledger.Kind = "backfill" if self.kind == "backfill" else "hour"
            # The log is read under the plan lock: read before it, it may end before what another planner has claimed.
            try:
                planned = ledger.plan(
                    session,
                    slice_id,
                    kind,
                    (start, end),
                    lambda last: kafka.next_claims(client, topics(), until, last),
                )
            except slices.LogError as error:
                raise AirflowFailException(str(error)) from error  # the log does not mend itself
            size = settings().chunk_size
            chunks = [k for c in planned.claims for k in cut(c.topic, c.partition, c.start, c.end, size)]
            uri = Plan(slice_id, settings().store, tuple(chunks), pins(settings().store, slice_id)).write()
            # Without its manifest a finished job does not count: whoever clears from here wants it computed again.
            manifest = Manifest.uri(settings().store, slice_id)
            storage.remove(manifest)
            if not chunks:
                Manifest(slice_id, (), 0).write(settings().store)  # nothing to transform: no job is started
            session.run("update ops.slice set plan_uri = :uri where slice_id = :id", uri=uri, id=slice_id)
            ledger.record_seconds(session, slice_id, "plan", time.monotonic() - began)
        self.log.info("slice %s: %s offsets in %s chunks", slice_id, planned.offsets, len(chunks))
        return {
            "slice_id": slice_id,
            "plan_uri": uri,
            "manifest_uri": manifest,
            "offsets": planned.offsets,
            "parameters": {"plan": uri, "bootstrap_servers": client["bootstrap.servers"]},
        }

    def window(self, context: Context) -> tuple[str, datetime, datetime, datetime]:
        """(slice id, window start, window end, arrival time that ends the slice)."""
        from madhatter.partitions import window

        now = datetime.now(UTC)
        if self.kind == "backfill":
            run = context["dag_run"].run_id
            return backfill_id(run), datetime(1970, 1, 1, tzinfo=UTC), now, now
        own = window(context)
        return hour_id(own.start), own.start, own.end, reach(own.end, own.closes, now)


def pins(store: str, slice_id: str) -> dict[str, str]:
    """The references that a slice is enriched from, {name: URI}: planned again, those that it was enriched from at
    first, and what has been added since. A plan.json that cannot be read is told in the log and pins nothing."""
    from include import references, storage
    from include.beam.plan import Plan

    uri = Plan.uri(store, slice_id)
    try:
        known = Plan.read(uri).references if storage.exists(uri) else {}
    except ValueError as error:
        words = "it is written anew, and the slice is enriched from the reference tables as they are now"
        log.warning("the earlier plan of slice %s is broken, so %s: %s", slice_id, words, error)
        known = {}
    return {**references.pin(store), **known}


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


def backfill_id(run_id: str) -> str:
    """A backfill's slice id: the same for every retry of the run."""
    import hashlib

    return f"backfill-{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"
