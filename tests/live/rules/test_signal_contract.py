"""Signals are what include/signals.yaml says, and no rule says anything else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest

from include import signals
from include.beam.rules import (
    RULES,
    Found,
    InteractionRow,
    MinuteRow,
    MovementRow,
    OrderRow,
    PaymentRow,
    ReadingRow,
)
from include.beam.rules.rule import MOST_HORIZON_S
from include.beam.snapshot import History, Shelf, Snapshot
from include.contracts import signal_contract
from tests.live.rules.stream import END_MS, START_MS

CONTRACT = signal_contract.read()
SNAPSHOT = Snapshot(
    datetime(2026, 11, 23, tzinfo=UTC),
    customers={"17850": History(9, 100.0, 200.0)},
    categories={"A": "Lights"},
    shelves={("LEEDS", "A"): Shelf(10, 5)},
)
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
}


def rows() -> Iterable[Any]:
    """Enough of everything for a signal of every kind, by arrival."""
    paid = tuple(PaymentRow("card", outcome, "a" * 16, "Spain") for outcome in ("declined", "accepted"))
    for n in range(40):
        ms = START_MS + n * 60_000
        yield MinuteRow(ms, 0 if n > 36 else 100, 0 if n > 36 else 100)
        yield ReadingRow(f"iot:{n}", ms, ms, "LEEDS-T-01", "LEEDS", "temperature", 99.0)
        for customer, country in (("17850", "France"), ("N1", "Germany"), (None, "Brazil")):
            about = f"order:{n}-{customer}", ms, ms, f"{n}-{customer}", "return" if n % 3 == 2 else "sale"
            yield OrderRow(*about, customer, country, "Europe", "web", 900_000, paid)
        for guest in range(20):
            about = f"order:{n}-{guest}", ms, ms, f"{n}-{guest}", "declined"
            yield OrderRow(*about, None, "France", None, "web", 1_000, (paid[0]._replace(card_hash=None),))
        yield MovementRow(f"move:{n}", ms, ms, 0, n, "LEEDS", "A", "sale", -6, None)
        yield InteractionRow(f"web:{n}", ms, ms, "s", "v", "17850", "add_to_cart", "A", None, "France", "web")


@pytest.fixture(scope="module")
def found() -> dict[str, list[Found]]:
    """All signals, by kind."""
    by_kind: dict[str, list[Found]] = {kind: [] for kind in signals.TOPICS}
    for make in RULES:
        rule = make(SNAPSHOT)
        for row in rows():
            for key in rule.keys(row) if isinstance(row, make.ROW) else ():
                for each in rule.observe(key, row):
                    by_kind[each.kind].append(each)
        for each in rule.advance(END_MS):
            by_kind[each.kind].append(each)
    return by_kind


def test_contract_and_message_have_the_same_fields_and_kinds() -> None:
    fields = {field.name: field for field in CONTRACT.message}
    assert list(fields) == [field.name for field in msgspec.structs.fields(signals.Signal)]
    kinds = set(get_args(signals.Kind))
    assert set(fields["kind"].values) == kinds == set(signals.TOPICS)
    assert {kind for features in CONTRACT.features.values() for kind in features.kinds} == kinds
    assert {kind for rule in RULES for kind in rule.KINDS} == kinds


@pytest.mark.parametrize("kind", list(signals.TOPICS))
def test_features_of_a_kind_are_those_of_the_contract(kind: str, found: dict[str, list[Found]]) -> None:
    assert found[kind]
    allowed = {tuple(sorted(field.name for field in fields)): fields for fields in CONTRACT.of_kind(kind)}
    seen = set()
    for each in found[kind]:
        names = tuple(sorted(each.features))
        assert names in allowed
        seen.add(names)
        for field in allowed[names]:
            value = each.features[field.name]
            if value is None:
                assert not field.is_required, field.name
                continue
            assert isinstance(value, TYPES[field.kind]), (field.name, value)
            assert not field.values or value in field.values
    assert seen == set(allowed)


def test_every_signal_can_be_sent(found: dict[str, list[Found]]) -> None:
    now = datetime.now(UTC)
    for each in (each for of_kind in found.values() for each in of_kind):
        signal = signals.Signal(
            signals.signal_id(each.kind, each.subject, each.event_id),
            each.kind,  # type: ignore[arg-type]
            each.subject,
            each.event_id,
            datetime.fromtimestamp(each.event_ms / 1000, UTC),
            datetime.fromtimestamp(each.arrival_ms / 1000, UTC),
            now,
            signals.trace_id(each.event_id),
            each.features,
        )
        assert signals.decode(signals.encode(signal)) == signal


def test_no_rule_needs_more_than_thirty_five_minutes() -> None:
    assert max(rule.HORIZON_S for rule in RULES) <= MOST_HORIZON_S
    assert len({rule.NAME for rule in RULES}) == len(RULES)
