"""A held slice that a person publishes: once, recorded, as its own window would have published it."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType

from include.beam.plan import Manifest
from madhatter import force, publish
from madhatter.force import Decision, ForceRefused
from tests.pipeline.chain import Chain, order

FIRST, SECOND = "hour-20110104t100000", "hour-20110104t110000"
BROKEN = "order_header: most_orders_are_sales (66.67 % of rows)"
DECISION = Decision("ada", "The shop took all calendars back.", "manual__1")


def held(chain: Chain, slice_id: str) -> Manifest:
    """A slice up to the audit, which holds it."""
    chain.plan(slice_id)
    manifest = chain.transform(slice_id)
    chain.stage(slice_id, state="held")
    chain.warehouse.run("update ops.slice set audit_result = :w where slice_id = :s", w=BROKEN, s=slice_id)
    return manifest


def decide(chain: Chain, slice_id: str, decision: Decision = DECISION) -> None:
    with chain.warehouse.transaction():
        force.force(chain.warehouse, chain.store, slice_id, decision)


def forced(chain: Chain) -> list[dict[str, Any]]:
    return chain.warehouse.rows("select * from ops.forced")


def test_forced_slice_is_published_as_if_its_audit_had_passed(chain: Chain) -> None:
    chain.send(0, order("A"), order("B"), order("A"), b"{broken")
    chain.staged(FIRST)
    chain.publish(FIRST)
    expected = chain.content("core", "marts")
    counts = chain.counts(FIRST)
    for table in ("order_header", "order_line"):
        chain.warehouse.run(f"delete from core.{table}")
    for name in expected:
        if name.startswith("marts."):
            chain.warehouse.run(f"delete from {name}")
    chain.warehouse.run("update ops.slice set state = 'held', audit_result = :words", words=BROKEN)

    decide(chain, FIRST)

    assert chain.state(FIRST) == "committed"
    assert chain.content("core", "marts") == expected
    assert chain.counts(FIRST) == counts
    assert chain.is_balanced()


def test_decision_is_kept_with_who_when_why_and_the_broken_rules(chain: Chain) -> None:
    chain.send(0, order("A"))
    held(chain, FIRST)
    decide(chain, FIRST)
    (row,) = forced(chain)
    (clock,) = chain.warehouse.rows("select sysdate() as now")
    now: datetime = clock["now"]
    assert now - timedelta(minutes=5) < row.pop("forced_ts") <= now
    assert row == {
        "slice_id": FIRST,
        "forced_by": "ada",
        "reason": DECISION.reason,
        "run_id": "manual__1",
        "broken": BROKEN,
    }
    (status,) = chain.warehouse.rows("select * from reporting.slice_status")
    assert (status["state"], status["audit_result"]) == ("committed", BROKEN)
    assert (status["forced_by"], status["forced_reason"]) == ("ada", DECISION.reason)


def test_later_slice_that_came_first_stays_as_it_is(chain: Chain) -> None:
    chain.send(0, order("A"), order("B"))
    held(chain, FIRST)
    chain.send(0, order("B", country="France"), order("C"))
    chain.run(SECOND)
    decide(chain, FIRST)
    rows = chain.warehouse.rows("select order_id, country from core.order_header order by order_id")
    assert [(row["order_id"], row["country"]) for row in rows] == [
        ("A", "United Kingdom"),
        ("B", "France"),
        ("C", "United Kingdom"),
    ]
    assert chain.counts(FIRST)[0] == (2, 0, 1, 1, 0, 0)
    assert chain.is_balanced()


@pytest.mark.parametrize("state", ["planned", "staged", "audited", "committed"])
def test_slice_that_is_not_held_is_refused_and_nothing_changes(chain: Chain, state: str) -> None:
    chain.send(0, order("A"))
    held(chain, FIRST)
    chain.warehouse.run("update ops.slice set state = :state", state=state)
    before = chain.content()
    with pytest.raises(ForceRefused, match=f"slice {FIRST} is {state}: only a held one waits for a decision"):
        decide(chain, FIRST)
    assert chain.content() == before


def test_slice_that_nobody_planned_is_refused(chain: Chain) -> None:
    with pytest.raises(ForceRefused, match=f"there is no slice {FIRST}: take its id from the red task"):
        decide(chain, FIRST)


def test_slice_that_is_being_computed_again_is_refused(chain: Chain) -> None:
    chain.send(0, order("A"))
    held(chain, FIRST)
    (chain.folder / "loads" / FIRST / "manifest.json").unlink()
    with pytest.raises(ForceRefused, match=r"is being computed again .*: wait for its next audit"):
        decide(chain, FIRST)
    assert (chain.state(FIRST), forced(chain)) == ("held", [])


def test_second_decision_is_refused_and_a_retry_finds_its_own(chain: Chain) -> None:
    chain.send(0, order("A"))
    held(chain, FIRST)
    decide(chain, FIRST)
    other = Decision("bob", "I think so too, really.", "manual__2")
    with pytest.raises(ForceRefused, match="is committed"):
        decide(chain, FIRST, other)
    assert [row["forced_by"] for row in forced(chain)] == ["ada"]
    assert force.is_done(chain.warehouse, FIRST, DECISION)
    assert not force.is_done(chain.warehouse, FIRST, other)


def test_decision_cannot_publish_what_does_not_add_up(chain: Chain) -> None:
    chain.send(0, order("A"), order("B"))
    held(chain, FIRST)
    chain.warehouse.run("update ops.slice_partition set delivered = delivered + 1")
    with pytest.raises(publish.PublishFault):
        decide(chain, FIRST)
    assert (chain.state(FIRST), forced(chain)) == ("held", [])
    assert chain.warehouse.rows("select * from core.order_header") == []


def run_of(who: str | None, reason: str = "Looked at it.", run_type: DagRunType = DagRunType.MANUAL) -> Any:
    run = SimpleNamespace(triggering_user_name=who, run_type=run_type, run_id="manual__1")
    return {"dag_run": run, "params": {"slice_id": FIRST, "reason": reason}}


def test_decision_names_the_person_who_triggered_the_run() -> None:
    assert force.decide(run_of("ada", "  Looked \n at it. ")) == Decision("ada", "Looked at it.", "manual__1")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (run_of(None), "by a person"),
        (run_of(" "), "by a person"),
        (run_of("ada", run_type=DagRunType.SCHEDULED), "by a person"),
        (run_of("ada", " \n"), "the reason is empty"),
    ],
)
def test_run_that_no_person_gave_a_reason_for_is_refused(run: Any, words: str) -> None:
    with pytest.raises(ForceRefused, match=words):
        force.decide(run)
