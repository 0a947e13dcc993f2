"""Dead letters mended by a rule: published once, in the place they had in the log, counted, and again in a replay."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include import fixes
from include.beam.plan import Source
from madhatter import backfill, ledger, letters
from madhatter.dashboards import files
from madhatter.letters import Choice, LettersRefused
from tests.pipeline.chain import TOPIC, Chain, order

BOM = order("B").replace(b"order:B", b"\xff\xfeorder:B")
TEXT = order("T").replace(b'"quantity": 2', b'"quantity": "2"')
WORD = order("W").replace(b'"quantity": 2', b'"quantity": "many"')


def mend(chain: Chain, rule: str, *places: tuple[str, int, int], run: str = "run", source: Source = "archive") -> None:
    """One run of the DAG dead_letters."""
    with chain.warehouse.transaction():
        slices = letters.decide(chain.warehouse, Choice(rule, places), run, "ann")
    found = ledger.with_ids(chain.warehouse, slices)
    for load in backfill.loads(chain.warehouse, chain.store, found, source, run, "nowhere:9092", 5):
        chain.transform(load["load_id"])
        chain.stage(load["load_id"])
        chain.publish(load["load_id"], load["slices"])


def by_reason(chain: Chain) -> dict[str, tuple[int, int, int, int, str]]:
    """Reason -> open, decided, mended, rejected again, rules."""
    rows = chain.warehouse.rows("select * from reporting.dead_letter_by_reason")
    names = ("open", "decided", "mended", "rejected_again", "rules")
    return {row["reason"]: (*(row[name] for name in names[:4]), row["rules"] or "") for row in rows}


def outcomes(chain: Chain) -> dict[tuple[int, int], str]:
    rows = chain.warehouse.rows("select partition, offset, outcome from ops.fix")
    return {(row["partition"], row["offset"]): row["outcome"] for row in rows}


def visible(chain: Chain) -> list[tuple[Any, ...]]:
    rows = chain.warehouse.rows("select event_id, partition, offset, slice_id from core.order_header")
    return sorted(tuple(row.values()) for row in rows)


@pytest.fixture
def rejected(chain: Chain) -> Chain:
    """Two slices with letters of two kinds that rules are about, and one that is beyond them."""
    chain.send(0, order("A"), BOM, b"{broken")
    chain.send(1, TEXT, WORD)
    chain.run("hour-1")
    chain.send(0, BOM, order("C"))
    chain.run("hour-2")
    assert len(visible(chain)) == 2
    return chain


def test_mended_letter_is_published_in_its_place_and_counted(rejected: Chain) -> None:
    mend(rejected, "number_as_text", (TOPIC, 1, 0))
    assert ("order:T", 1, 0, "hour-1") in visible(rejected)
    assert outcomes(rejected) == {(1, 0): "published"}
    assert rejected.counts("hour-1")[1] == (2, 0, 1, 0, 1, 0)
    assert rejected.is_balanced()
    (line,) = rejected.warehouse.rows("select quantity from core.order_line where event_id = 'order:T'")
    assert line["quantity"] == 2
    (row,) = rejected.warehouse.rows("select * from ops.fix")
    assert (row["rule_name"], row["run_id"], row["decided_by"]) == ("number_as_text", "run", "ann")
    assert "got `str`" in row["was_rejected_for"]


def test_all_open_letters_of_a_rule_are_mended_twins_once(rejected: Chain) -> None:
    mend(rejected, "byte_order_mark")
    assert outcomes(rejected) == {(0, 1): "published", (0, 3): "duplicate"}
    assert [row for row in visible(rejected) if row[0] == "order:B"] == [("order:B", 0, 1, "hour-1")]
    assert rejected.is_balanced()
    with pytest.raises(LettersRefused, match="no open dead letter is one for byte_order_mark"):
        mend(rejected, "byte_order_mark", run="again")


@pytest.mark.parametrize("source", ["kafka", "archive"])
def test_replay_of_mended_slices_gives_identical_content(rejected: Chain, source: Source) -> None:
    mend(rejected, "byte_order_mark")
    mend(rejected, "number_as_text", run="more")
    before = rejected.content()
    rejected.replay(source)
    assert rejected.content() == before
    assert rejected.is_balanced()


def test_letter_that_came_right_meanwhile_stays_a_duplicate_in_replays(rejected: Chain) -> None:
    rejected.send(1, order("B"))
    rejected.run("hour-3")
    mend(rejected, "byte_order_mark")
    assert set(outcomes(rejected).values()) == {"duplicate"}
    assert [row for row in visible(rejected) if row[0] == "order:B"] == [("order:B", 1, 2, "hour-3")]
    before = rejected.content()
    rejected.replay("archive")
    assert rejected.content() == before
    assert rejected.is_balanced()


def test_letter_that_a_rule_cannot_mend_stays_one_and_may_be_tried_with_another(rejected: Chain) -> None:
    mend(rejected, "number_as_text")
    assert outcomes(rejected) == {(1, 0): "published", (1, 1): "rejected"}
    assert rejected.is_balanced()
    before = rejected.content()
    with pytest.raises(LettersRefused, match=r"sales\.orders\[1\]:1: tried with number_as_text by run run"):
        mend(rejected, "number_as_text", (TOPIC, 1, 1), run="again")
    with pytest.raises(LettersRefused, match=r"sales\.orders\[1\]:1: not what byte_order_mark is about, reasons like"):
        mend(rejected, "byte_order_mark", (TOPIC, 1, 1), run="again")
    assert rejected.content() == before


def test_letters_are_counted_by_reason_and_by_what_became_of_them(rejected: Chain) -> None:
    text = "Expected `int`, got `str` at `lines[].quantity`"
    assert by_reason(rejected) == {"not JSON": (1, 0, 0, 0, ""), "not UTF-8": (2, 0, 0, 0, ""), text: (2, 0, 0, 0, "")}
    with rejected.warehouse.transaction():
        letters.decide(rejected.warehouse, Choice("number_as_text", ()), "run", "ann")
    assert by_reason(rejected)[text] == (0, 2, 0, 0, "number_as_text")
    mend(rejected, "number_as_text")
    mend(rejected, "byte_order_mark", (TOPIC, 0, 1), run="more")
    assert by_reason(rejected) == {
        "not JSON": (1, 0, 0, 0, ""),
        "not UTF-8": (1, 0, 1, 0, "byte_order_mark"),
        text: (0, 0, 1, 1, "number_as_text"),
    }
    (row,) = rejected.warehouse.rows(
        "select max(newest_arrival_ts) as at from reporting.dead_letter_by_reason where reason = 'not UTF-8'"
    )
    (newest,) = rejected.warehouse.rows("select max(arrival_ts) as at from ops.dead_letter where offset = 3")
    assert row["at"] == newest["at"]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("lines[12].unit_price: -11062.06 is below the minimum 0", "lines[].unit_price: is below the minimum"),
        ("event_ts: 1999-01-01 10:00:00 is before 2010-01-01", "event_ts: is before"),
        ("Invalid enum value 'me@example.com' - at `channel`", "Invalid enum value ... - at `channel`"),
        ("contact.phone: Could not convert '0151 555' with type str", "contact.phone"),
        ("the parser fails on it: ValueError: me@example.com: 1", "the parser fails on it"),
        ("empty message", "empty message"),
    ],
)
def test_reason_is_shown_without_what_it_quotes(chain: Chain, reason: str, shown: str) -> None:
    chain.warehouse.run(
        "insert into ops.dead_letter (slice_id, topic, partition, offset, reason) "
        "values ('one', 'sales.orders', 0, 0, :reason)",
        reason=reason,
    )
    assert by_reason(chain) == {shown: (1, 0, 0, 0, "")}


@pytest.mark.parametrize("name", ["platform", "sales"])
def test_dashboards_have_a_new_version_of_their_data_once_a_letter_is_mended(rejected: Chain, name: str) -> None:
    board = files.load().dashboards[name]
    coverage = board.datasets[board.coverage.dataset].statement
    before = rejected.warehouse.rows(coverage)
    mend(rejected, "number_as_text", (TOPIC, 1, 0))
    assert rejected.warehouse.rows(coverage) != before


def test_run_that_is_cleared_after_its_decision_goes_on_with_it(rejected: Chain) -> None:
    with rejected.warehouse.transaction():
        letters.decide(rejected.warehouse, Choice("number_as_text", ((TOPIC, 1, 0),)), "run", "ann")
    mend(rejected, "number_as_text", (TOPIC, 1, 0))
    assert outcomes(rejected) == {(1, 0): "published"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([f"{TOPIC}[0]"], r"letters: 'sales\.orders\[0\]' is no place such as"),
        ([f"{TOPIC}[0]:0"], r"sales\.orders\[0\]:0: no dead letter of a published slice, or mended already"),
        ([f"{TOPIC}[9]:1"], r"sales\.orders\[9\]:1: no dead letter"),
    ],
)
def test_choice_of_no_letter_is_refused_by_place(chain: Chain, given: list[str], words: str) -> None:
    with pytest.raises(LettersRefused, match=words):
        mend(chain, "number_as_text", *Choice.of({"rule": "number_as_text", "letters": given}).letters)


def test_rule_that_is_gone_is_named(rejected: Chain) -> None:
    mend(rejected, "number_as_text", (TOPIC, 1, 0))
    rejected.warehouse.run("update ops.fix set rule_name = 'gone'")
    before = rejected.content()
    with pytest.raises(fixes.NoRule, match="there is no rule 'gone' in include/fixes: byte_order_mark, number_as_text"):
        rejected.replay("archive")
    assert rejected.content() == before


@pytest.mark.parametrize("name", fixes.names())
def test_rule_says_what_it_is_about_and_answers_none_to_what_it_cannot_mend(name: str) -> None:
    rule = fixes.rule(name)
    assert rule.page.splitlines()[0].endswith(".")
    for value in (b"", b"{", b"[1]", json.dumps({"quantity": "many"}).encode()):
        assert rule.fix(TOPIC, value) is None
