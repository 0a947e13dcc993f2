"""State that lives in the process, and what the runner keeps to make it again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
import pytest

from include.beam import live_state
from include.beam.live_reasons import DeadLetter
from include.beam.live_rules import ROWS, TIME, Shard, of_minute
from include.beam.live_state import held
from include.beam.rules.rows import MinuteRow, OrderRow
from include.beam.rules.rule import Found, Rule


@dataclass
class Kept:
    """What a runner keeps of a key: a value and a bag, which has no order."""

    value: bytes | None = None
    bag: list[bytes] = field(default_factory=list)

    def read(self) -> Any:
        return self.value

    def write(self, value: bytes) -> None:
        self.value = value

    def clear(self) -> None:
        self.value = None
        self.bag.clear()


class Bag(Kept):
    def read(self) -> Any:
        return random.sample(self.bag, len(self.bag))

    def add(self, blob: bytes) -> None:
        self.bag.append(blob)


class Words:
    """A fold: all words in their order."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.made = True

    def take(self, kind: int, blob: bytes) -> int:  # noqa: ARG002
        self.words.append(blob.decode())
        return len(self.words)

    def dump(self) -> bytes:
        return " ".join(self.words).encode()

    def load(self, blob: bytes) -> None:
        self.words = blob.decode().split()


def say(version: Kept, bag: Bag, word: str, *, compact: bool = False, step: str = "words") -> list[str]:
    with held(step, 1, Words, version, bag) as state:
        state.take(1, word.encode())
        if compact:
            state.compact()
        return list(state.fold.words)


def test_state_is_made_anew_from_what_the_runner_keeps_in_the_order_of_taking() -> None:
    version, bag = Kept(), Bag()
    for number in range(12):
        say(version, bag, f"w{number}", compact=number == 5)
    assert len(bag.bag) == 7
    words = [f"w{number}" for number in range(12)]
    # Another step's name: nothing of it is in this process.
    assert say(version, bag, "new", step="other worker") == [*words, "new"]


def test_bag_ends_by_itself_where_nobody_compacts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_state, "MOST", 10)
    version, bag = Kept(), Bag()
    for number in range(25):
        say(version, bag, f"w{number}", step="standing")
    assert len(bag.bag) == 6
    assert say(version, bag, "new", step="made anew") == [*(f"w{number}" for number in range(25)), "new"]


def test_bundle_that_failed_leaves_no_trace() -> None:
    version, bag = Kept(), Bag()
    say(version, bag, "a", step="failing")
    before = (version.value, list(bag.bag))
    with pytest.raises(UnicodeDecodeError), held("failing", 1, Words, version, bag) as state:
        state.take(1, b"lost \xff")
    # The runner forgets what the bundle wrote.
    version.value, bag.bag = before
    assert say(version, bag, "b", step="failing") == ["a", "b"]


def test_bundle_that_was_not_committed_is_not_remembered() -> None:
    version, bag = Kept(), Bag()
    say(version, bag, "a", step="uncommitted")
    before = (version.value, list(bag.bag))
    say(version, bag, "lost", step="uncommitted")
    version.value, bag.bag = before
    assert say(version, bag, "b", step="uncommitted") == ["a", "b"]


class Fussy(Rule):
    """Finds every order but one, on which it fails; keeps their number."""

    NAME, KINDS, HORIZON_S = "fussy", ("order_velocity",), 60
    ROW: ClassVar[type] = OrderRow

    def __init__(self, snapshot: Any) -> None:
        super().__init__(snapshot)
        self.count = 0

    def keys(self, row: Any) -> Iterable[str]:
        return (row.order_id,)

    def observe(self, key: str, row: Any) -> list[Found]:
        if key == "bad":
            raise ValueError("no such order")
        self.count += 1
        return [Found("order_velocity", key, row.event_id, row.event_ms, row.arrival_ms, {}, row.arrival_ms)]

    def advance(self, watermark_ms: int) -> list[Found]:
        raise OSError(f"at {watermark_ms}")

    def dump(self) -> bytes:
        return str(self.count).encode()

    def load(self, state: bytes) -> None:
        self.count = int(state)


def blob(*orders: str) -> bytes:
    rows = [(o, at, OrderRow(o, 5, 6, o, "sale", None, "France", None, "web", 1, ())) for at, o in enumerate(orders)]
    return msgspec.msgpack.encode([("sales.orders", 2, {"fussy": rows})])


def test_rule_that_fails_on_an_event_tells_it_and_goes_on() -> None:
    shard = Shard([Fussy(None)])
    found, letters = shard.take(ROWS, blob("a", "bad", "b"))
    assert [each.event_id for each in found] == ["a", "b"]
    assert letters == [DeadLetter("sales.orders", 2, 1, "rule fussy: ValueError: no such order")]
    assert shard.take(TIME, (7).to_bytes(8, "big")) == ([], [])
    again = Shard([Fussy(None)])
    again.load(shard.dump())
    assert again.rules["fussy"].count == 2  # type: ignore[attr-defined]


def test_final_minute_comes_to_the_rules_that_want_minutes() -> None:
    class Minutes(Fussy):
        NAME, ROW = "minutes", MinuteRow

        def keys(self, row: Any) -> Iterable[str]:  # noqa: ARG002
            return ("platform",)

        def observe(self, key: str, row: Any) -> list[Found]:
            return [Found("sales_drop", key, "m", row.minute_ms, row.minute_ms, {"views": row.views}, row.minute_ms)]

    keyed = of_minute((0, msgspec.msgpack.encode(MinuteRow(60_000, 1, 17))), [Minutes])
    ((found,), _) = Shard([Minutes(None)]).take(ROWS, keyed[1])
    assert found.features == {"views": 17}
