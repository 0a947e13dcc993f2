"""Publishes a load: core, dead letters, dimensions, hour marts and ledger flip together in one transaction."""

from __future__ import annotations

import json
import time
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from madhatter.warehouse import Row, Warehouse


DIMENSIONS = ("customer", "product")
HOURS_PER_STATEMENT = 10_000  # about 220 kB of the 1 MB that Snowflake takes


class PublishFault(RuntimeError):
    """An equation about a slice is false; everything was rolled back."""


class PublishLoad(BaseOperator):
    """Makes the slices of a load visible, once; run again it gives the same content. Returns the load with all hours
    whose marts were computed."""

    template_fields = ("load",)

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.load = load

    def execute(self, context: Context) -> dict[str, Any]:
        from madhatter import ledger, warehouse

        began = time.monotonic()
        load_id, slices, hours = self.load["load_id"], self.load["slices"], self.load["hours"]
        done = None
        try:
            with warehouse.session(context) as session, session.transaction():
                publish(session, load_id, {slice_id: hours.get(slice_id, []) for slice_id in slices})
                done = _publications(session, slices)
        except Exception:
            if done is None:
                raise
            # A COMMIT whose reply was lost has happened all the same: the ledger knows.
            with warehouse.session(context) as session:
                if done != _publications(session, slices):
                    raise
            self.log.warning("the reply to COMMIT was lost; the ledger says that load %s is published", load_id)
        with warehouse.session(context) as session:
            computed = touched_hours(session, slices)
            ledger.record_seconds(session, load_id, "publish", time.monotonic() - began)
            (counts,) = session.rows(
                "select sum(delivered) as delivered, sum(published) as published, sum(duplicates) as duplicates, "
                "sum(dead_letters) as dead_letters, sum(erased) as erased, sum(holes) as holes "
                "from reporting.slice_status where slice_id in "
                "(select value::varchar from table(flatten(input => parse_json(:slices))))",
                slices=warehouse.json_list(slices),
            )
        self.log.info("load %s: %s", load_id, ", ".join(f"{name} {value}" for name, value in counts.items()))
        return {**self.load, "hours": computed}


def publish(warehouse: Warehouse, load_id: str, hours: Mapping[str, list[str]]) -> None:
    """All of the publication but BEGIN and COMMIT: DML only. hours: slice -> event hours of its rows (ISO), for every
    slice of the load.

    Raises PublishFault, to be rolled back, when a slice is held or an equation is false."""
    from include.contracts.contract import models
    from madhatter import ledger
    from madhatter.warehouse import json_list

    ledger.take_lock(warehouse, "publish", load_id)
    slices = sorted(hours)
    warehouse.run_file("ops/touched_slice.sql", slices=json_list(slices))
    _check_states(warehouse, slices)
    # A slice that was published before may have touched other hours then.
    touched = {*touched_hours(warehouse, slices), *(hour for of_slice in hours.values() for hour in of_slice)}
    parameters = {"load_id": load_id, **_touch(warehouse, touched)}
    for dimension in DIMENSIONS:
        warehouse.run_file(f"ops/touched_{dimension}.sql", **parameters)
    warehouse.run(
        "update ops.slice_partition set published = 0, duplicates = 0, erased = 0 "
        "where slice_id in (select slice_id from staging.touched_slice)"
    )
    faults: list[Row] = []
    for model in models():
        name = model.table.name
        warehouse.run_file(f"core/{name}.sql", **parameters)
        if model.is_root:
            warehouse.run_file(f"core/{name}_counts.sql", **parameters)
        elif model.table.min_items:
            faults += warehouse.rows_of_file(f"core/{name}_missing.sql", **parameters)
    warehouse.run_file("ops/dead_letter.sql", **parameters)
    warehouse.run_file("ops/fix_outcomes.sql", **parameters)
    moved: set[str] = set()
    for dimension in DIMENSIONS:
        warehouse.run_file(f"dimensions/{dimension}.sql")
        # A change that came late moves the facts of the hours since.
        moved |= _hours(warehouse.rows_of_file(f"ops/hours_of_changed_{dimension}s.sql"))
    faults += warehouse.rows_of_file("ops/faults.sql", **parameters)
    if faults:
        words = "; ".join(f"{row['topic']}[{row['partition']}]: {row['fault']}" for row in faults[:10])
        raise PublishFault(f"load {load_id}: {words}")
    compute_hours(warehouse, touched | moved)
    _note_hours(warehouse, hours, moved)
    warehouse.run(
        "update ops.slice set state = 'committed', published_ts = sysdate(), "
        "committed_ts = coalesce(slice.committed_ts, sysdate()), commit_no = touched_slice.commit_no "
        "from staging.touched_slice where slice.slice_id = touched_slice.slice_id"
    )


def _publications(warehouse: Warehouse, slices: list[str]) -> list[Row]:
    """When each of these slices was published last."""
    from madhatter.warehouse import json_list

    return warehouse.rows(
        "select slice_id, published_ts from ops.slice where slice_id in "
        "(select value::varchar from table(flatten(input => parse_json(:slices)))) order by slice_id",
        slices=json_list(slices),
    )


def _check_states(warehouse: Warehouse, slices: list[str]) -> None:
    """Raises PublishFault when a slice may not be seen."""
    rows = warehouse.rows(
        "select slice_id, state from ops.slice where slice_id in (select slice_id from staging.touched_slice)"
    )
    states = {row["slice_id"]: row["state"] for row in rows}
    for slice_id in slices:
        state = states.get(slice_id, "unknown")
        if state not in ("audited", "committed"):
            raise PublishFault(f"slice {slice_id} is {state}: only an audited one is published")


def _note_hours(warehouse: Warehouse, hours: Mapping[str, list[str]], moved: set[str]) -> None:
    """Notes which hours each slice touched. Those that changed dimensions moved are noted with the last one."""
    last = max(hours)
    noted = {(slice_id, hour) for slice_id, of_slice in hours.items() for hour in of_slice}
    pairs = sorted(noted | {(last, hour) for hour in moved})
    for first in range(0, len(pairs), HOURS_PER_STATEMENT):
        warehouse.run_file("ops/slice_hour.sql", hours=json.dumps(pairs[first : first + HOURS_PER_STATEMENT]))


def compute_hours(warehouse: Warehouse, hours: Iterable[str]) -> None:
    """Computes the hour marts of event hours (ISO) anew from core. Call it in a transaction."""
    from include.sql import sql_files

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


def touched_hours(warehouse: Warehouse, slices: list[str]) -> list[str]:
    """The event hours (ISO) whose marts the last publications of the slices computed."""
    from madhatter.warehouse import json_list

    rows = warehouse.rows(
        "select distinct event_hour from ops.slice_hour where slice_id in "
        "(select value::varchar from table(flatten(input => parse_json(:slices))))",
        slices=json_list(slices),
    )
    return sorted(_hours(rows))


def _hours(rows: list[Row]) -> set[str]:
    return {row["event_hour"].isoformat() for row in rows}


def roll_up(warehouse: Warehouse, days: list[str]) -> None:
    """Notes the days (ISO dates) in ops.day, recomputes their day marts, and as a whole the marts that are as of the
    newest day in ops.day, in one transaction."""
    from madhatter import ledger

    with warehouse.transaction():
        ledger.take_lock(warehouse, "publish", "roll_up")
        compute_days(warehouse, days)


def compute_days(warehouse: Warehouse, days: list[str]) -> None:
    """All of a roll-up but its transaction and its lock."""
    from include.sql import sql_files
    from madhatter.warehouse import json_list

    for name in ["ops/day.sql", *sql_files("marts/day"), *sql_files("marts/as_of")]:
        warehouse.run_file(name, days=json_list(days))
