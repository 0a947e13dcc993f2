"""The ledger in the warehouse: claims, states and counts of slices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from madhatter.slices import Claim, Place
from madhatter.warehouse import Warehouse

Kind = Literal["hour", "backfill"]
_LOCK_TIMEOUT = 625  # Snowflake's number for a statement that gave up waiting for a lock


class LockTaken(RuntimeError):
    """Another session has not let go of a lock for LOCK_TIMEOUT. Nothing was done; a retry waits for it again."""


@dataclass(frozen=True)
class Slice:
    """A slice as the ledger has it. Times are UTC. pins {name: URI}: the references that it is enriched from."""

    slice_id: str
    kind: str
    window_start: datetime
    window_end: datetime
    state: str
    claims: tuple[Claim, ...]
    pins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def offsets(self) -> int:
        """How many offsets the slice owns."""
        return sum(claim.end - claim.start for claim in self.claims)


def find(warehouse: Warehouse, slice_id: str) -> Slice | None:
    """The slice with this id, None when it was never planned."""
    found = _slices(warehouse, "slice_id = :slice_id", slice_id=slice_id)
    return found[0] if found else None


def committed(warehouse: Warehouse, start: datetime, end: datetime) -> list[Slice]:
    """The committed slices with events whose windows overlap [start, end), UTC, in the order of first commits."""
    window = {"start": start.astimezone(UTC).replace(tzinfo=None), "end": end.astimezone(UTC).replace(tzinfo=None)}
    return _slices(
        warehouse,
        "state = 'committed' and window_start < :end and window_end > :start "
        "and slice_id in (select part.slice_id from ops.slice_partition as part where part.delivered > 0)",
        **window,
    )


def with_ids(warehouse: Warehouse, ids: list[str]) -> list[Slice]:
    """The slices with these ids, in the order of first commits."""
    which = "slice_id in (select value::varchar from table(flatten(input => parse_json(:ids))))"
    return _slices(warehouse, which, ids=json.dumps(ids))


def _slices(warehouse: Warehouse, which: str, **parameters: Any) -> list[Slice]:
    """which: a condition on ops.slice."""
    rows = warehouse.rows(f"select * from ops.slice where {which} order by commit_no, slice_id", **parameters)
    parts = warehouse.rows(
        f"select * from ops.slice_partition where slice_id in (select slice_id from ops.slice where {which}) "
        "order by topic, partition",
        **parameters,
    )
    claims: dict[str, list[Claim]] = {row["slice_id"]: [] for row in rows}
    for part in parts:
        claims[part["slice_id"]].append(_claim(part))
    return [
        Slice(
            row["slice_id"],
            row["kind"],
            row["window_start"],
            row["window_end"],
            row["state"],
            tuple(claims[row["slice_id"]]),
            json.loads(row["pins"] or "{}"),
        )
        for row in rows
    ]


def last_claims(warehouse: Warehouse) -> dict[Place, Claim]:
    """The newest claim of every partition, whatever became of its slice."""
    rows = warehouse.rows_of_file("ops/last_claims.sql")
    return {(claim.topic, claim.partition): claim for claim in map(_claim, rows)}


def take_lock(warehouse: Warehouse, name: Literal["plan", "publish"], holder: str) -> None:
    """Makes planners, or publishers, take turns until this transaction ends. It must be the transaction's first
    statement: what it reads then is what the one before has committed. holder: who is shown in the table.

    INSERTs do not wait for each other and keys are not enforced, but an UPDATE waits for whoever has updated the table
    and not committed: the one row of ops.plan_lock and ops.publish_lock is there for nothing else. Raises LockTaken."""
    from snowflake.connector.errors import ProgrammingError

    table = f"ops.{name}_lock"
    try:
        locked = warehouse.run(f"update {table} set holder = :holder, taken_ts = sysdate()", holder=holder)
    except ProgrammingError as error:
        if error.errno != _LOCK_TIMEOUT:
            raise
        raise LockTaken(
            f"{holder} did not get {table}: another session has held it longer than LOCK_TIMEOUT. Nothing was done, a "
            "retry waits again. If it stays so, docs/runbook.md says how to find and end that session (lock taken)"
        ) from error
    if locked != 1:
        raise RuntimeError(
            f"{table} has {locked} rows: without exactly one nobody waits for anybody. Pause the DAGs, then "
            f"`delete from {table}` and `insert into {table} (holder) values ('nobody')`"
        )


def plan(
    warehouse: Warehouse,
    slice_id: str,
    kind: Kind,
    window: tuple[datetime, datetime],
    claim: Callable[[dict[Place, Claim]], Iterable[Claim]],
) -> Slice:
    """Claims the slice once: under the plan lock, `claim` gets the newest claims and returns the slice's own. A slice
    that is planned already is returned as it is, so that two planners agree."""
    with warehouse.transaction():
        take_lock(warehouse, "plan", slice_id)
        known = find(warehouse, slice_id)
        if known is not None:
            return known
        claims = tuple(claim(last_claims(warehouse)))
        start, end = (moment.astimezone(UTC).replace(tzinfo=None) for moment in window)
        warehouse.run(
            "insert into ops.slice (slice_id, kind, window_start, window_end, state, planned_ts) "
            "values (:slice_id, :kind, :start, :end, 'planned', sysdate())",
            slice_id=slice_id,
            kind=kind,
            start=start,
            end=end,
        )
        for one in claims:
            warehouse.run(
                "insert into ops.slice_partition "
                "(slice_id, topic, partition, topic_id, leader_epoch, start_offset, end_offset) "
                "values (:slice_id, :topic, :partition, :topic_id, :leader_epoch, :start, :end)",
                slice_id=slice_id,
                **vars(one),
            )
        return Slice(slice_id, kind, start, end, "planned", claims)


def set_state(warehouse: Warehouse, slice_id: str, state: str) -> None:
    """Moves a slice on. One that is committed stays so while it is computed again: its rows are visible."""
    warehouse.run(
        "update ops.slice set state = :state where slice_id = :slice_id and state <> 'committed'",
        state=state,
        slice_id=slice_id,
    )


_STEPS = {"plan": "plan_s", "transform": "transform_s", "stage": "stage_s", "audit": "audit_s", "publish": "publish_s"}


def record_seconds(warehouse: Warehouse, slice_id: str, step: str, seconds: float) -> None:
    """Stores how long a step took; shown in reporting.slice_status."""
    column = _STEPS[step]
    sql = f"update ops.slice set {column} = :seconds where slice_id = :slice_id"
    warehouse.run(sql, seconds=round(seconds, 2), slice_id=slice_id)


def _claim(row: dict[str, Any]) -> Claim:
    return Claim(
        topic=row["topic"],
        partition=row["partition"],
        topic_id=row["topic_id"],
        leader_epoch=row["leader_epoch"],
        start=row["start_offset"],
        end=row["end_offset"],
    )
