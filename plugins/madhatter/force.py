"""Publishes a held slice because a person says so, and keeps who, when, why and against which rules."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from madhatter import audit_page
from madhatter.settings import settings

if TYPE_CHECKING:
    from madhatter.warehouse import Warehouse


class ForceRefused(RuntimeError):
    """The slice is not one that waits for a person."""


@dataclass(frozen=True)
class Decision:
    """A person's decision: who made it, why, in which run."""

    who: str
    reason: str
    run_id: str


class ForcePublish(BaseOperator):
    """Publishes the held slice of the run's parameters `slice_id` and `reason`. Returns {"slice_id", "kind",
    "window_start", "window_end", "hours"}. Fails without a retry when there is nothing to decide."""

    operator_extra_links = (audit_page.AuditLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.load: dict[str, Any] | None = None  # what AuditLink looks for

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowFailException

        from madhatter import ledger, publish, warehouse

        began = time.monotonic()
        slice_id = context["params"]["slice_id"]
        self.load = {"load_id": slice_id}
        try:
            decision = decide(context)
        except ForceRefused as error:
            raise AirflowFailException(str(error)) from error
        with warehouse.session(context) as session:
            try:
                with session.transaction():
                    force(session, settings().store, slice_id, decision)
            except ForceRefused as error:
                # A COMMIT whose reply was lost has happened all the same: a retry finds the run's own decision.
                if not is_done(session, slice_id, decision):
                    raise AirflowFailException(str(error)) from error
                self.log.info("slice %s was published by an earlier try of this run", slice_id)
        with warehouse.session(context) as session:
            found = ledger.find(session, slice_id)
            assert found is not None
            all_hours = publish.touched_hours(session, [slice_id])
            ledger.record_seconds(session, slice_id, "publish", time.monotonic() - began)
        self.log.warning("slice %s is published against its audit by %s: %s", slice_id, decision.who, decision.reason)
        return {
            "slice_id": slice_id,
            "kind": found.kind,
            "window_start": found.window_start.isoformat(),
            "window_end": found.window_end.isoformat(),
            "hours": all_hours,
        }


def decide(context: Context) -> Decision:
    """The decision that a run stands for. Raises ForceRefused when no person made it."""
    run = context["dag_run"]
    who = (run.triggering_user_name or "").strip()
    if run.run_type != "manual" or not who:
        raise ForceRefused("a held slice is published by a person who triggers force_publish in the Airflow UI")
    reason = " ".join(str(context["params"]["reason"]).split())
    if not reason:
        raise ForceRefused("the reason is empty: say why the slice may be seen although it breaks its rules")
    return Decision(who, reason, run.run_id)


def force(warehouse: Warehouse, store: str, slice_id: str, decision: Decision) -> None:
    """All of it but BEGIN and COMMIT: takes the slice out of its hold, notes the decision, publishes. Raises
    ForceRefused when the slice is not held, PublishFault as a publication does."""
    from include import storage
    from include.beam.plan import Manifest
    from madhatter import ledger, publish

    # From here on neither another publication nor an audit of the slice can change its state.
    ledger.take_lock(warehouse, "publish", slice_id)
    released = warehouse.run(
        "update ops.slice set state = 'audited' where slice_id = :slice_id and state = 'held'", slice_id=slice_id
    )
    if not released:
        known = ledger.find(warehouse, slice_id)
        if known is None:
            raise ForceRefused(
                f"there is no slice {slice_id}: take its id from the red task, or from the Platform page"
            )
        raise ForceRefused(f"slice {slice_id} is {known.state}: only a held one waits for a decision")
    try:
        hours = Manifest.read(store, slice_id).hours()
    except FileNotFoundError as error:
        storage.check_reachable(store)
        raise ForceRefused(f"slice {slice_id} is being computed again ({error}): wait for its next audit") from error
    warehouse.run(
        "insert into ops.forced (slice_id, forced_by, forced_ts, reason, run_id, broken) "
        "select slice_id, :who, sysdate(), :reason, :run_id, audit_result from ops.slice where slice_id = :slice_id",
        slice_id=slice_id,
        **vars(decision),
    )
    publish.publish(warehouse, slice_id, {slice_id: hours.get(slice_id, [])})


def is_done(warehouse: Warehouse, slice_id: str, decision: Decision) -> bool:
    """Whether this very decision has published the slice."""
    return bool(
        warehouse.rows(
            "select 1 as done from ops.forced where slice_id = :slice_id and run_id = :run_id",
            slice_id=slice_id,
            run_id=decision.run_id,
        )
    )
