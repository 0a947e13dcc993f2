"""A new source is one file and one command: the steps of docs/how-to/add-a-source.md, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.instance import ROOT
from tests.pipeline.chain import Chain, order
from tests.stand_ins import Snowflake

HOW_TO = ROOT / "docs" / "how-to" / "add-a-source.md"
TOPIC = "payments.transactions"


def block(kind: str) -> str:
    """The guide's only code block of this kind."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    return str(found)


def python(tree: Path, *arguments: str, text: str = "") -> str:
    """Runs a module in the copied tree and returns what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tree}:{tree / 'plugins'}", "HOME": str(tree)},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the guide was followed."""
    copy = tmp_path_factory.mktemp("tree")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / "include" / "contracts" / f"{TOPIC}.yaml").write_text(block("yaml"))
    assert "payment_transaction.sql" in python(copy, "-m", "include.contracts")
    return copy


def test_documented_steps_alone_bring_events_of_a_new_topic_to_core(tree: Path, tmp_path: Path) -> None:
    printed = python(tree, "-m", "tests.pipeline.one_slice", TOPIC, str(tmp_path), text=block("json"))
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    (row,) = found["tables"]["payment_transaction"]
    assert (row["event_id"], row["order_id"], row["amount"], row["country_code"]) == (
        "txn:1",
        "536365",
        "139.1200",
        "IE",
    )
    assert ["chargeback" in reason for reason in found["reasons"]] == [True]
    assert found["broken"] == []
    (counts,) = found["reconciliation"]
    names = ("delivered", "published", "duplicates", "dead_letters", "is_balanced")
    assert [counts[name] for name in names] == [3, 1, 1, 1, True]


def test_derived_files_are_those_that_the_guide_names_and_lint_clean(tree: Path) -> None:
    assert "everything is as the contracts say" in python(tree, "-m", "include.contracts")
    made = {
        "include/contracts/generated/payments_transactions.py",
        "include/contracts/generated/payments_transactions.suite.json",
        "include/sql/migrations/R__table_payment_transaction.sql",
        "include/sql/core/payment_transaction.sql",
        "include/sql/core/payment_transaction_counts.sql",
        "docs/contracts/payments.transactions.md",
    }
    assert {path for path in made if not (tree / path).is_file()} == set()
    sql = sorted(path for path in made if path.endswith(".sql"))
    python(tree, "-m", "sqlfluff", "lint", "--disable-progress-bar", *sql)


def test_added_optional_column_migrates_forth_and_back(tree: Path, tmp_path: Path) -> None:
    """A warehouse of today takes tomorrow's contract, and today's code goes on over tomorrow's tables."""
    own = Snowflake(tmp_path)
    own.start()
    try:
        contract = tree / "include" / "contracts" / "sales.orders.yaml"
        text = contract.read_text()
        before = "      - name: currency\n"
        voucher = (
            "      - name: voucher\n        description: Code of the voucher.\n        logicalType: string\n"
            "        physicalType: varchar(12)\n        examples: [HATS10]\n"
        )
        contract.write_text(text.replace(before, voucher + before))
        python(tree, "-m", "include.contracts")
        settings = f"Instance(Path({str(tmp_path / 'instance')!r}), {own.base})"
        python(
            tree,
            "-c",
            "from pathlib import Path; from local.instance import Instance; from local.migrate import migrate; "
            f"migrate({settings})",
        )
        chain = Chain(own.open(), tmp_path)
        columns = [row["name"].lower() for row in chain.warehouse.rows("describe table core.order_header")]
        assert "voucher" in columns
        chain.send(0, order("A"))
        chain.run("hour-1")
        assert chain.is_balanced()
        contract.write_text(text)
        assert "order_header" in python(tree, "-m", "include.contracts"), "an optional column may go again"
    finally:
        own.end()
