"""Publishes a slice: core, dead letters, dimensions, hour marts and ledger flip together in one transaction."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

if TYPE_CHECKING:
    from collections.abc import Iterable

    from madhatter.warehouse import Row, Warehouse


DIMENSIONS = ("customer", "product")
HOURS_PER_STATEMENT = 10_000  # about 220 kB of the 1 MB that Snowflake takes


class PublishFault(RuntimeError):
    """An equation about the slice is false; everything was rolled back."""


class PublishSlice(BaseOperator):
    """Makes the slice visible, once; run again it gives the same content. Returns what came in, with all hours whose
    marts were computed."""

    template_fields = ("slice",)

    def __init__(self, *, slice: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slice = slice

    def execute(self, context: Context) -> dict[str, Any]:
        from madhatter import ledger, warehouse

        began = time.monotonic()
        slice_id = self.slice["slice_id"]
        with warehouse.session(context) as session:
            try:
                with session.transaction():
                    publish(session, slice_id, self.slice["hours"])
            except Exception:
                # A COMMIT whose reply was lost has happened all the same: the ledger knows.
                if not self._is_committed(slice_id):
                    raise
                self.log.warning("the reply to COMMIT was lost; the ledger says that slice %s is committed", slice_id)
        with warehouse.session(context) as session:
            hours = touched_hours(session, slice_id)
            ledger.record_seconds(session, slice_id, "publish", time.monotonic() - began)
            (counts,) = session.rows(
                "select delivered, published, duplicates, dead_letters, erased, holes "
                "from reporting.slice_status where slice_id = :slice_id",
                slice_id=slice_id,
            )
        self.log.info("slice %s: %s", slice_id, ", ".join(f"{name} {value}" for name, value in counts.items()))
        return {**self.slice, "hours": hours}

    def _is_committed(self, slice_id: str) -> bool:
        from madhatter import ledger, warehouse

        with warehouse.session() as session:
            found = ledger.find(session, slice_id)
        return found is not None and found.state == "committed"


def publish(warehouse: Warehouse, slice_id: str, hours: list[str]) -> None:
    """All of the publication but BEGIN and COMMIT: DML only. hours: event hours of the slice, ISO.

    Raises PublishFault, to be rolled back, when the slice is held or an equation is false."""
    from include.contracts.contract import models
    from madhatter import ledger

    ledger.take_lock(warehouse, "publish", slice_id)
    known = ledger.find(warehouse, slice_id)
    if known is None or known.state not in ("audited", "committed"):
        state = known.state if known else "unknown"
        raise PublishFault(f"slice {slice_id} is {state}: only an audited one is published")
    # A slice that was published before may have touched other hours then.
    touched = {*hours, *touched_hours(warehouse, slice_id)}
    parameters = {"slice_id": slice_id, **_touch(warehouse, touched)}
    for dimension in DIMENSIONS:
        warehouse.run_file(f"ops/touched_{dimension}.sql", **parameters)
    warehouse.run(
        "update ops.slice_partition set published = 0, duplicates = 0, erased = 0 where slice_id = :slice_id",
        slice_id=slice_id,
    )
    faults: list[Row] = []
    for model in models():
        name = model.table.name
        warehouse.run_file(f"core/{name}.sql", **parameters)
        if not model.is_root:
            if model.table.min_items:
                faults += warehouse.rows_of_file(f"core/{name}_missing.sql", **parameters)
            continue
        for row in warehouse.rows_of_file(f"core/{name}_counts.sql", **parameters):
            warehouse.run(
                "update ops.slice_partition set published = :published, duplicates = :duplicates, erased = :erased "
                "where slice_id = :slice_id and topic = :topic and partition = :partition",
                slice_id=slice_id,
                **{name: row[name] for name in ("published", "duplicates", "erased", "topic", "partition")},
            )
    warehouse.run_file("ops/dead_letter.sql", **parameters)
    for dimension in DIMENSIONS:
        warehouse.run_file(f"dimensions/{dimension}.sql")
        # A change that came late moves the facts of the hours since.
        touched |= _hours(warehouse.rows_of_file(f"ops/hours_of_changed_{dimension}s.sql"))
    faults += warehouse.rows_of_file("ops/faults.sql", **parameters)
    if faults:
        words = "; ".join(f"{row['topic']}[{row['partition']}]: {row['fault']}" for row in faults[:10])
        raise PublishFault(f"slice {slice_id}: {words}")
    compute_hours(warehouse, touched)
    warehouse.run_file("ops/slice_hour.sql", slice_id=slice_id)
    warehouse.run(
        "update ops.slice set state = 'committed', committed_ts = sysdate() where slice_id = :slice_id",
        slice_id=slice_id,
    )


def compute_hours(warehouse: Warehouse, hours: Iterable[str]) -> None:
    """Computes the hour marts of event hours (ISO) anew from core. Call it in a transaction."""
    from madhatter.warehouse import sql_files

    parameters = _touch(warehouse, hours)
    for name in sql_files("marts/hour"):
        warehouse.run_file(name, **parameters)


def _touch(warehouse: Warehouse, hours: Iterable[str]) -> dict[str, str]:
    """Names the hours in staging.touched_hour, in which no statement's size limits their number. Returns the days that
    bound them."""
    from madhatter.warehouse import json_list

    ordered = sorted(hours)
    warehouse.run("delete from staging.touched_hour")
    for first in range(0, len(ordered), HOURS_PER_STATEMENT):
        warehouse.run_file("ops/touched_hour.sql", hours=json_list(ordered[first : first + HOURS_PER_STATEMENT]))
    days = [date.fromisoformat(hour[:10]) for hour in ordered] or [date(1970, 1, 1)]
    return {"first_day": min(days).isoformat(), "past_last_day": (max(days) + timedelta(days=1)).isoformat()}


def touched_hours(warehouse: Warehouse, slice_id: str) -> list[str]:
    """The event hours (ISO) whose marts a publication of the slice computed."""
    return sorted(_hours(warehouse.rows("select event_hour from ops.slice_hour where slice_id = :s", s=slice_id)))


def _hours(rows: list[Row]) -> set[str]:
    return {row["event_hour"].isoformat() for row in rows}


def roll_up(warehouse: Warehouse, days: list[str]) -> None:
    """Notes the days (ISO dates) in ops.day, recomputes their day marts, and as a whole the marts that are as of the
    newest day in ops.day, in one transaction."""
    from madhatter import ledger
    from madhatter.warehouse import json_list, sql_files

    with warehouse.transaction():
        ledger.take_lock(warehouse, "publish", "roll_up")
        for name in ["ops/day.sql", *sql_files("marts/day"), *sql_files("marts/as_of")]:
            warehouse.run_file(name, days=json_list(days))
