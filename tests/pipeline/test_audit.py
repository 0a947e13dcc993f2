"""The audit as the task runs it: Airflow's connection, Great Expectations, the staged rows in the warehouse."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from local.instance import ROOT, Instance
from madhatter import ledger
from tests.pipeline.chain import Chain, empty_chain, order
from tests.stand_ins import Snowflake

SLICE = "hour-20110104t100000"
AUDIT = """
import json, sys
from dataclasses import asdict
from madhatter.audit import audit
found = {name: [asdict(rule) for rule in audit("snowflake_default", name, ["sales.orders"])] for name in sys.argv[1:]}
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Broken rules of four staged slices, by slice id, from one process with an instance's own settings."""
    chain = empty_chain(snowflake.open(), tmp_path_factory.mktemp("audit"))
    chain.send(0, order("A"), order("B"))
    chain.staged("good")
    corrections = [order(f"C{number}", order_type="gift", unit_price=0) for number in range(20)]
    chain.send(0, *corrections, *(order(f"E{number}") for number in range(10)))
    chain.staged("mostly-corrections")
    chain.send(0, *(order(f"F{number}", country="Unspecified") for number in range(30)), order("G", quantity=0))
    chain.staged("warnings")
    chain.send(0, *(order(f"I{number}", order_type="adjustment", country="Unspecified") for number in range(29)))
    chain.staged("few")
    chain.send(0, order("H"))
    chain.staged("tampered")
    chain.warehouse.run("update staging.order_line set unit_price = -1, product_id = null where slice_id = 'tampered'")
    chain.warehouse.close()
    instance = Instance(snowflake.folder / "instance", snowflake.base)
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, "good", "mostly-corrections", "warnings", "few", "tampered"],
        cwd=ROOT,
        env=instance.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rules: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.split("FOUND", 1)[1])
    return rules


def broken(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(rule["table"], rule["rule"], rule["severity"]) for rule in rules}


def test_good_slice_breaks_no_rule(found: dict[str, list[dict[str, Any]]]) -> None:
    assert found["good"] == []


def test_slice_that_is_mostly_corrections_breaks_an_error_rule_with_the_share(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    (rule,) = found["mostly-corrections"]
    assert broken([rule]) == {("order_header", "most_orders_are_sales", "error")}
    assert rule["observed"] == "66.67 % of rows"


def test_share_of_a_few_rows_breaks_no_rule(found: dict[str, list[dict[str, Any]]]) -> None:
    assert found["few"] == []


def test_warnings_are_told_apart_from_errors(found: dict[str, list[dict[str, Any]]]) -> None:
    assert broken(found["warnings"]) == {
        ("order_header", "most_orders_have_a_country", "warning"),
        ("order_line", "lines_move_something", "warning"),
    }


def test_rules_that_follow_from_the_columns_are_checked_in_the_warehouse(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    assert broken(found["tampered"]) == {
        ("order_line", "expect_column_values_to_not_be_null:product_id", "error"),
        ("order_line", "expect_column_values_to_be_between:unit_price", "error"),
    }


def test_ledger_keeps_a_held_slice_apart(chain: Chain) -> None:
    chain.send(0, order("A"))
    chain.staged(SLICE)
    ledger.set_state(chain.warehouse, SLICE, "held")
    held = ledger.find(chain.warehouse, SLICE)
    assert held is not None
    assert (held.state, held.offsets) == ("held", 1)
