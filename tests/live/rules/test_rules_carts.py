"""Carts that were left: decided when nothing that could change it is still to come."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from include.beam.rules import InteractionRow, thresholds
from include.beam.rules.carts import TYPES, CartLeft
from tests.live.rules.stream import START_MS, Names, Partitions, When, check_new_start, content, log, names, play, whens

AFTER_S = thresholds.read().cart_left.after_s
# Of carts the horizon takes in clocks that are four minutes ahead; the sessions of others may be found differently
# after a new start.
MOST_AHEAD_S = 240


def act(number: int, when: When, **fields: Any) -> InteractionRow:
    times = when.event_ms, when.arrival_ms
    row = InteractionRow(f"web:{number}", *times, "s-1", "v-1", None, "add_to_cart", "A", None, "France", "web")
    return row._replace(**fields)


def at(number: int, seconds: float, act_: str, **fields: Any) -> InteractionRow:
    """What a visitor did so many seconds after the start, that arrives at once."""
    ms = START_MS + int(seconds * 1000)
    return act(number, When(ms, ms, None), interaction_type=act_, **fields)


@st.composite
def logs(draw: st.DrawFn) -> Partitions:
    rows = []
    for number, when in enumerate(draw(whens(14, [0, 1, 60, 1000, 1770, 1860], MOST_AHEAD_S))):
        session = draw(st.integers(0, 2))
        row = act(
            number,
            when,
            session_id=f"s-{session}",
            visitor_id=f"v-{session}",
            customer_id=draw(st.sampled_from([None, "17850"])),
            interaction_type=draw(st.sampled_from(["add_to_cart"] * 3 + sorted(TYPES) + ["product_view"])),
            product_id=draw(st.sampled_from(["A", "B"])),
        )
        rows.append((session % 2, row, when))
    return log(rows, 2)


def by_definition(partitions: Partitions) -> Names:
    acts = {row.event_id: row for rows in partitions for row in rows if row.interaction_type in TYPES - {"checkout"}}
    return {
        ("cart_left", f"session:{add.session_id}", add.event_id)
        for add in acts.values()
        if add.interaction_type == "add_to_cart"
        and not any(
            (add.event_ms, add.event_id) < (other.event_ms, other.event_id)
            and other.event_ms <= add.event_ms + AFTER_S * 1000
            for other in acts.values()
            if other.session_id == add.session_id
        )
    }


@given(partitions=logs(), random=st.randoms(use_true_random=False))
def test_any_interleaving_finds_what_the_definition_says(partitions: Partitions, random: Random) -> None:
    found = play(CartLeft, None, partitions, random)
    assert names(found) == by_definition(partitions)
    assert content(found) == content(play(CartLeft, None, partitions))


@given(partitions=logs(), start_s=st.integers(-100, 9_000))
def test_job_that_begins_anew_its_horizon_earlier_finds_the_same(partitions: Partitions, start_s: int) -> None:
    check_new_start(CartLeft, None, partitions, START_MS + start_s * 1000)


def test_cart_is_left_after_thirty_minutes_without_a_purchase() -> None:
    rows = [
        at(1, 0, "add_to_cart", product_id="A", customer_id="17850"),
        at(2, 30, "add_to_cart", product_id="B"),
        at(3, 40, "add_to_cart", product_id="C"),
        at(4, 50, "checkout", product_id=None),
    ]
    (found,) = play(CartLeft, None, [rows])
    assert (found.subject, found.event_id) == ("session:s-1", "web:3")
    assert found.decided_ms == START_MS + (40 + AFTER_S + 60) * 1000
    assert found.features["products"] == ["A", "B", "C"]
    assert found.features["customer_id"] == "17850"
    assert found.features["has_begun_checkout"]
    assert not play(CartLeft, None, [[*rows, at(5, 40 + AFTER_S, "purchase", order_id="1")]])
    assert play(CartLeft, None, [[*rows, at(5, 41 + AFTER_S, "purchase", order_id="1")]])


def test_what_was_taken_out_again_is_no_cart() -> None:
    rows = [at(1, 0, "add_to_cart"), at(2, 10, "remove_from_cart")]
    assert not play(CartLeft, None, [rows])
    (found,) = play(CartLeft, None, [[*rows, at(3, 20, "add_to_cart", product_id="B")]])
    assert found.features["products"] == ["B"]


def test_interactions_that_touch_no_cart_are_of_no_interest() -> None:
    assert not list(CartLeft(None).keys(at(1, 0, "product_view")))


def test_nothing_is_left_of_sessions_that_are_decided() -> None:
    rule = CartLeft(None)
    rule.observe("session:s-1", at(1, 0, "add_to_cart"))
    end_ms = START_MS + 3_600_000
    assert rule.advance(end_ms)
    rule.forget(end_ms - CartLeft.HORIZON_S * 1000)
    empty = CartLeft(None)
    empty.advance(end_ms)
    assert rule.dump() == empty.dump()
