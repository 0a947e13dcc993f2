"""The ledger's export: whole or not at all, and what it was when it comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from madhatter import ledger_export, publish
from madhatter.ledger_export import NoExport
from tests.pipeline.chain import Chain, order

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.fixture
def exported(chain: Chain) -> str:
    """The URI of an export of a ledger with a slice, a day, an erased event, and what was decided about an alert."""
    for table in ledger_export.TABLES:
        chain.warehouse.run(f"delete from ops.{table}")
    chain.warehouse.run("insert into ops.erased (event_id, erased_ts) values ('order:B', sysdate())")
    chain.warehouse.run(
        "insert into ops.alert (alert_id, state, details, raised_ts, times_raised) "
        "values ('1', 'acknowledged', '{\"order_ids\": [\"A\"]}', '2026-11-23 09:00:00.123456', 2)"
    )
    for table in ("held_order", "reorder_draft", "incident"):
        by = "closed_by" if table == "incident" else "decided_by"
        chain.warehouse.run(f"insert into ops.{table} (alert_id, state, {by}) values ('1', 'x', 'somebody')")
    chain.warehouse.run("insert into ops.offer (signal_id, customer_id, lift) values ('2', '12345', 1.5)")
    chain.send(0, order("A"), order("B"), b"{broken")
    chain.run("hour-1")
    publish.roll_up(chain.warehouse, ["2011-01-04"])
    with chain.warehouse.transaction():
        return ledger_export.export(chain.warehouse, chain.store, NOW)


def empty(chain: Chain) -> None:
    for table in ledger_export.TABLES:
        chain.warehouse.run(f"delete from ops.{table}")


def ledger(chain: Chain) -> dict[str, list[str]]:
    return {name: sorted(map(repr, chain.warehouse.rows(f"select * from ops.{name}"))) for name in ledger_export.TABLES}


def test_restored_ledger_is_what_it_was(chain: Chain, exported: str) -> None:
    before = ledger(chain)
    empty(chain)
    rows = ledger_export.restore(chain.warehouse, exported)
    assert ledger(chain) == before
    assert (rows["slice"], rows["erased"], rows["day"], rows["forced"]) == (1, 1, 1, 0)
    assert [rows[table] for table in ("alert", "held_order", "reorder_draft", "incident", "offer")] == [1] * 5


def test_ledger_is_restored_into_empty_tables_only(chain: Chain, exported: str) -> None:
    before = ledger(chain)
    with pytest.raises(ValueError, match=r"ops\.slice has 1 rows: restore into an empty, migrated warehouse"):
        ledger_export.restore(chain.warehouse, exported)
    assert ledger(chain) == before


def test_newest_whole_export_counts(chain: Chain, exported: str) -> None:
    with chain.warehouse.transaction():
        later = ledger_export.export(chain.warehouse, chain.store, NOW + timedelta(hours=1))
    assert ledger_export.newest(chain.store) == later
    Path(later.removeprefix("file://")).joinpath(ledger_export.COMPLETE).unlink()
    assert ledger_export.newest(chain.store) == exported


def test_store_without_an_export_is_named(chain: Chain) -> None:
    with pytest.raises(NoExport, match=r"/ledger has no export of the ledger: the DAG retention writes one a day"):
        ledger_export.newest(chain.store)
