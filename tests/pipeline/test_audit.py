"""The audit as the task runs it: Airflow's connection, Great Expectations, the staged rows in the warehouse."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.instance import ROOT, Instance
from madhatter import audit_page, ledger
from madhatter.audit import Verdict, suites
from tests.pipeline.chain import TOPIC, Chain, empty_chain, order
from tests.stand_ins import Snowflake

SLICE = "hour-20110104t100000"
CUSTOMERS = "crm.customers"
CONTACT = {"name": "Ada Byron", "email": "ada@example.com", "address": "12 Mill Lane, Leeds"}
# Rules that fail on personal columns and observe their values; the last one asks what the warehouse refuses.
NOSY = [
    ("in_set", "expect_column_values_to_be_in_set", {"column": "email_address", "value_set": ["nobody"]}),
    ("distinct", "expect_column_distinct_values_to_be_in_set", {"column": "postal_address", "value_set": ["nowhere"]}),
    ("common", "expect_column_most_common_value_to_be_in_set", {"column": "customer_name", "value_set": ["nobody"]}),
    ("refused", "expect_column_values_to_be_between", {"column": "customer_name", "min_value": 1, "max_value": 2}),
]
AUDIT = """
import json, sys
from dataclasses import asdict
from datetime import UTC, datetime
from madhatter import audit, audit_page

stated, nosy = audit.suites, json.loads(sys.argv[1])

def suites(topic):
    found = stated(topic)
    if "customer_contact" in found:
        rules = [{"type": t, "kwargs": k, "meta": {"rule": n, "severity": "error"}} for n, t, k in nosy]
        found["customer_contact"] += rules
    return found

audit.suites = suites
verdicts = {name: audit.audit("snowflake_default", name, [topic]) for topic, name in map(str.split, sys.argv[2:])}
pages = {name: audit_page.html(name, found, datetime(2026, 11, 23, tzinfo=UTC)) for name, found in verdicts.items()}
print("FOUND" + json.dumps([{name: list(map(asdict, found)) for name, found in verdicts.items()}, pages]))
"""


def customer(number: int) -> bytes:
    event = {
        "event_id": f"customer:17850:{number}",
        "event_ts": "2011-01-04T10:00:00Z",
        "customer_id": "17850",
        "change_type": "changed",
        "country": "United Kingdom",
        "loyalty_tier": "none",
        "accepts_marketing": True,
        "contact": CONTACT,
    }
    return json.dumps(event).encode()


@dataclass(frozen=True)
class Audited:
    """By slice id: all verdicts, and the page."""

    verdicts: dict[str, list[dict[str, Any]]]
    pages: dict[str, str]

    def broken(self, name: str) -> list[dict[str, Any]]:
        return [verdict for verdict in self.verdicts[name] if verdict["outcome"] == "broken"]


@pytest.fixture(scope="module")
def audited(snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """Six staged slices, audited in one process with an instance's own settings."""
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
    chain.send(0, *map(customer, range(3)), topic=CUSTOMERS)
    chain.staged("personal")
    chain.warehouse.close()
    slices = [f"{TOPIC} {name}" for name in ("good", "mostly-corrections", "warnings", "few", "tampered")]
    instance = Instance(snowflake.folder / "instance", snowflake.base)
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, json.dumps(NOSY), *slices, f"{CUSTOMERS} personal"],
        cwd=ROOT,
        env=instance.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Audited(*json.loads(done.stdout.split("FOUND", 1)[1]))


def broken(audited: Audited, name: str) -> set[tuple[str, str, str]]:
    return {(rule["table"], rule["rule"], rule["severity"]) for rule in audited.broken(name)}


def test_good_slice_breaks_no_rule_and_every_rule_is_told(audited: Audited) -> None:
    found = audited.verdicts["good"]
    assert {verdict["outcome"] for verdict in found} == {"holds"}
    rules = {(table, rule["meta"]["rule"]) for table, rules in suites(TOPIC).items() for rule in rules}
    assert {(verdict["table"], verdict["rule"]) for verdict in found} == rules
    assert {(verdict["table"], verdict["rows"]) for verdict in found} == {
        ("order_header", 2),
        ("order_line", 2),
        ("payment", 0),
    }


def test_slice_that_is_mostly_corrections_breaks_an_error_rule_with_the_share(audited: Audited) -> None:
    assert broken(audited, "mostly-corrections") == {("order_header", "most_orders_are_sales", "error")}
    (rule,) = audited.broken("mostly-corrections")
    assert (rule["observed"], rule["rows"]) == ("66.67 % of rows", 30)


def test_share_of_a_few_rows_breaks_no_rule(audited: Audited) -> None:
    assert audited.broken("few") == []
    few = [verdict["rule"] for verdict in audited.verdicts["few"] if verdict["outcome"] == "few"]
    assert few == ["most_orders_are_sales", "most_orders_have_a_country"]


def test_warnings_are_told_apart_from_errors(audited: Audited) -> None:
    assert broken(audited, "warnings") == {
        ("order_header", "most_orders_have_a_country", "warning"),
        ("order_line", "lines_move_something", "warning"),
    }
    assert "Passed with 2 warnings" in audited.pages["warnings"]


def test_rules_that_follow_from_the_columns_are_checked_in_the_warehouse(audited: Audited) -> None:
    assert broken(audited, "tampered") == {
        ("order_line", "expect_column_values_to_not_be_null:product_id", "error"),
        ("order_line", "expect_column_values_to_be_between:unit_price", "error"),
    }
    assert "Held: 2 rules of severity error broken" in audited.pages["tampered"]


def test_page_tells_rules_in_words_with_what_the_contract_says(audited: Audited) -> None:
    page = audited.pages["mostly-corrections"]
    assert "order_type is one of sale, return in at least 50 % of rows. A slice that is mostly returns" in page
    assert "unit_price is at least 0<" in page
    assert "product_id is given<" in page


def test_no_value_of_a_row_is_on_the_page_even_where_a_rule_observes_it(audited: Audited) -> None:
    assert {rule["rule"] for rule in audited.broken("personal")} == {name for name, _, _ in NOSY}
    told = audited.pages["personal"] + json.dumps(audited.verdicts["personal"])
    for value in (*CONTACT.values(), "17850"):
        assert value not in told


def test_page_escapes_what_it_shows() -> None:
    rule = Verdict("a.b", "t", "r", "is <script>", "error", 1, "broken", "<b>")
    page = audit_page.html(SLICE, [rule], datetime(2026, 11, 23, tzinfo=UTC))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", ["../secret", "hour-20110104t100000/..", "", "hour-20110104T100000"])
def test_only_a_slice_has_a_page(name: str, tmp_path: Path) -> None:
    (tmp_path / "loads").mkdir()
    (tmp_path / "audit.html").touch()
    with pytest.raises(FileNotFoundError):
        audit_page.read(tmp_path.as_uri(), name)


def test_ledger_keeps_a_held_slice_apart(chain: Chain) -> None:
    chain.send(0, order("A"))
    chain.staged(SLICE)
    ledger.set_state(chain.warehouse, SLICE, "held")
    held = ledger.find(chain.warehouse, SLICE)
    assert held is not None
    assert (held.state, held.offsets) == ("held", 1)
