"""Rules about orders: they find what their definitions say, however the partitions of the log are interleaved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.beam.rules import Found, OrderRow, PaymentRow, Rule, thresholds
from include.beam.rules.amounts import UnusualAmount
from include.beam.rules.payments import FailedPayments, PlatformPayments
from include.beam.rules.returns import EarlyReturn
from include.beam.rules.travel import ImpossibleTravel
from include.beam.rules.velocity import OrderVelocity
from include.beam.rules.windows import WindowRule
from include.beam.snapshot import History, Snapshot
from tests.live.rules.stream import START_MS, Names, Partitions, When, check_new_start, content, log, names, play, whens

LIMITS = thresholds.read()
SNAPSHOT = Snapshot(
    datetime(2026, 11, 23, tzinfo=UTC),
    customers={"known": History(40, 300.0, 900.0), "young": History(2, 250.0, 260.0)},
)
RULES: list[type[WindowRule]] = [OrderVelocity, FailedPayments, ImpossibleTravel, EarlyReturn]
REGIONS = {"France": "Europe", "Germany": "Europe", "Brazil": "South America", "Unspecified": None}
CARDS = ("a" * 16, "b" * 16)
Judge = Callable[[str, OrderRow, list[OrderRow]], bool]


@st.composite
def logs(draw: st.DrawFn) -> Partitions:
    """Orders of a few customers and guests with a few cards, in three partitions by customer."""
    rows: list[tuple[int, OrderRow, When]] = []
    for number, when in enumerate(draw(whens(14, [0, 1, 60, 200, 700, 1500]))):
        customer = draw(st.sampled_from(["known", "young", "new", None]))
        row = order(
            number,
            when,
            order_type=draw(st.sampled_from(["sale", "sale", "declined", "return", "gift"])),
            customer_id=customer,
            country=draw(st.sampled_from(list(REGIONS))),
            amount=draw(st.sampled_from([1_000, 260_000, 1_000_000])),
            payments=tuple(
                PaymentRow("card", outcome, draw(st.sampled_from(CARDS)), "France")
                for outcome in draw(st.lists(st.sampled_from(["declined", "accepted"]), max_size=2))
            ),
        )
        rows.append(({"known": 0, "young": 1, "new": 1}.get(customer or "", number % 3), row, when))
    return log(rows, 3)


def order(number: int, when: When, **fields: Any) -> OrderRow:
    """An order; its country says the region."""
    times = when.event_ms, when.arrival_ms
    row = OrderRow(f"order:{number}", *times, str(number), "sale", None, "France", None, "web", 1_000, ())
    row = row._replace(**fields)
    return row._replace(region=REGIONS[row.country])


def at(number: int, seconds: float, **fields: Any) -> OrderRow:
    """An order so many seconds after the start, that arrives at once."""
    ms = START_MS + int(seconds * 1000)
    return order(number, When(ms, ms, None), **fields)


def by_definition(rule: type[WindowRule], judge: Judge, partitions: Partitions) -> Names:
    """What a rule has to find: each order of a key that its whole window speaks against."""
    first: dict[str, OrderRow] = {}
    for rows in partitions:
        for row in rows:
            first.setdefault(row.event_id, row)
    keyed = [(key, row) for row in first.values() for key in rule(SNAPSHOT).keys(row)]
    found = set()
    for key, each in keyed:
        window = [
            other
            for other_key, other in keyed
            if other_key == key and each.event_ms - rule.WINDOW_S * 1000 < other.event_ms <= each.event_ms
        ]
        if judge(key, each, window):
            found.add((rule.KINDS[0], key, each.event_id))
    return found


def _is_bought(row: OrderRow) -> bool:
    return row.order_type in ("sale", "declined")


def _many(_: str, each: OrderRow, window: list[OrderRow]) -> bool:
    return _is_bought(each) and sum(map(_is_bought, window)) > LIMITS.order_velocity.most_orders


def _refused(key: str, _: OrderRow, window: list[OrderRow]) -> bool:
    attempts = [
        payment
        for row in window
        for payment in row.payments
        if key in (f"customer:{row.customer_id}", f"card:{payment.card_hash}")
    ]
    return sum(payment.outcome == "declined" for payment in attempts) > LIMITS.failed_payments.most_declined


def _travels(_: str, each: OrderRow, window: list[OrderRow]) -> bool:
    limits = LIMITS.impossible_travel
    for other in window:
        is_far = each.region and other.region and each.region != other.region
        least = limits.between_regions_min if is_far else limits.within_region_min
        if other.country != each.country and each.event_ms - other.event_ms < least * 60_000:
            return True
    return False


def _returned(_: str, __: OrderRow, window: list[OrderRow]) -> bool:
    return any(row.order_type == "return" for row in window)


JUDGES: list[tuple[type[WindowRule], Judge]] = list(zip(RULES, [_many, _refused, _travels, _returned]))


@pytest.mark.parametrize(("rule", "judge"), JUDGES)
@given(partitions=logs(), random=st.randoms(use_true_random=False))
def test_any_interleaving_finds_what_the_definition_says(
    rule: type[WindowRule], judge: Judge, partitions: Partitions, random: Random
) -> None:
    assert names(play(rule, SNAPSHOT, partitions, random)) == by_definition(rule, judge, partitions)


@pytest.mark.parametrize("rule", RULES)
@given(partitions=logs(), random=st.randoms(use_true_random=False))
def test_signal_about_a_customer_says_the_same_in_any_interleaving(
    rule: type[WindowRule], partitions: Partitions, random: Random
) -> None:
    def of_customers(found: list[Found]) -> set[str]:
        return content(each for each in found if each.subject.startswith("customer:"))

    assert of_customers(play(rule, SNAPSHOT, partitions, random)) == of_customers(play(rule, SNAPSHOT, partitions))


@pytest.mark.parametrize("rule", [*RULES, PlatformPayments])
@given(partitions=logs(), start_s=st.integers(-100, 4_000))
def test_job_that_begins_anew_its_horizon_earlier_finds_the_same(
    rule: type[Rule], partitions: Partitions, start_s: int
) -> None:
    check_new_start(rule, SNAPSHOT, partitions, START_MS + start_s * 1000)


@pytest.mark.parametrize("rule", RULES)
def test_new_start_knows_the_first_order_of_the_longest_window(rule: type[WindowRule]) -> None:
    # The first ones were ahead of their time by as much as is accepted, the last one is as late as is accepted.
    last_s = rule.WINDOW_S - 1
    paid = (PaymentRow("card", "declined", CARDS[0], "France"),)
    times = [(0, -300, "return"), (0, -300, "sale"), (0, -300, "sale"), (last_s, last_s + 60, "sale")]
    rows = [
        order(
            number,
            When(START_MS + event_s * 1000, START_MS + arrival_s * 1000, None),
            order_type=order_type,
            customer_id="new",
            country="Brazil" if event_s else "France",
            payments=paid,
        )
        for number, (event_s, arrival_s, order_type) in enumerate(times)
    ]
    found = play(rule, SNAPSHOT, [rows])
    assert "order:3" in {each.event_id for each in found}
    check_new_start(rule, SNAPSHOT, [rows], rows[-1].arrival_ms)


def test_order_read_before_earlier_ones_of_other_partitions_is_certain_with_its_own_arrival() -> None:
    """A job that died had read the earlier ones, not the last: the next one must tell of it."""
    most = thresholds.read().order_velocity.most_orders
    rows = [at(number, number, customer_id="C", country="France") for number in range(most + 1)]
    rule = OrderVelocity(SNAPSHOT)
    found = [each for row in (rows[-1], *rows[:-1]) for each in rule.observe("customer:C", row)]
    assert {each.decided_ms for each in found} == {rows[-1].arrival_ms}


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_left_of_orders_that_no_order_to_come_can_have_in_its_window(rule: type[WindowRule]) -> None:
    state = rule(SNAPSHOT)
    row = at(1, 0, customer_id="new", payments=(PaymentRow("card", "declined", CARDS[0], None),))
    for key in state.keys(row):
        state.observe(key, row)
    state.forget(START_MS)
    assert state.dump() != rule(SNAPSHOT).dump()
    state.forget(START_MS + 1)
    assert state.dump() == rule(SNAPSHOT).dump()


def test_late_order_makes_a_later_one_the_third() -> None:
    late = at(2, 100, customer_id="new")._replace(arrival_ms=START_MS + 150_000)
    first, last = at(1, 0, customer_id="new"), at(3, 140, customer_id="new")
    (found,) = play(OrderVelocity, None, [[first, last, late]])
    assert (found.subject, found.event_id) == ("customer:new", "order:3")
    assert found.features["window_order_ids"] == ["1", "2", "3"]
    assert found.decided_ms == late.arrival_ms
    apart = at(2, LIMITS.order_velocity.window_s, customer_id="new")
    assert not play(OrderVelocity, None, [[first, at(4, 1, customer_id="new"), apart]])


def test_order_is_unusual_against_a_long_history_else_against_the_platform() -> None:
    def basis(customer_id: str | None, pounds: int) -> str | None:
        row = at(1, 0, customer_id=customer_id, amount=pounds * 1000)
        found = play(UnusualAmount, SNAPSHOT, [[row]])
        return found[0].features["basis"] if found else None

    assert SNAPSHOT.amount_at(LIMITS.unusual_amount.share_of_sales) == 300
    assert [basis("known", pounds) for pounds in (301, 900, 901)] == [None, None, "customer"]
    assert [basis("young", pounds) for pounds in (300, 301)] == [None, "platform"]
    assert [basis("new", pounds) for pounds in (300, 301)] == [None, "platform"]
    assert [basis(None, pounds) for pounds in (300, 301)] == [None, "platform"]


def test_unusual_amount_and_early_return_are_silent_without_a_snapshot() -> None:
    rows = [at(1, 0, customer_id="new", amount=9_000_000), at(2, 1, customer_id="new", order_type="return")]
    assert not play(UnusualAmount, None, [rows])
    assert not play(EarlyReturn, None, [rows])
    assert not play(UnusualAmount, Snapshot(SNAPSHOT.taken_ts), [rows])


def test_early_return_names_the_sales_it_follows_and_says_whether_all_comes_back() -> None:
    rows = [
        at(1, 0, customer_id="new", amount=400_000),
        at(2, 600, customer_id="new", amount=-400_000, order_type="return"),
        at(3, 1200, customer_id="new", amount=500_000),
    ]
    back, again = play(EarlyReturn, SNAPSHOT, [rows])
    assert (back.event_id, back.features["is_whole_basket"]) == ("order:2", True)
    assert back.features["window_order_ids"] == ["1"]
    assert (again.event_id, again.features["window_return_ids"]) == ("order:3", ["2"])
    assert not play(EarlyReturn, SNAPSHOT, [[row._replace(customer_id="known") for row in rows]])


def test_card_that_goes_to_two_countries_within_minutes_is_found() -> None:
    card = (PaymentRow("card", "accepted", CARDS[0], "France"),)
    within_s = 60 * LIMITS.impossible_travel.within_region_min
    first = at(1, 0, country="Germany", payments=card)
    (found,) = play(ImpossibleTravel, None, [[first], [at(2, 300, country="France", payments=card)]])
    assert found.subject == f"card:{CARDS[0]}"
    assert (found.features["other_country"], found.features["minutes"]) == ("Germany", 5.0)
    assert not play(ImpossibleTravel, None, [[first], [at(2, within_s, country="France", payments=card)]])
    assert play(ImpossibleTravel, None, [[first], [at(2, within_s, country="Brazil", payments=card)]])


def payments(minute: int, count: int, declined: int) -> list[OrderRow]:
    """Orders of guests in a minute, so many of them declined."""
    return [
        at(
            minute * 1000 + n,
            minute * 60 + n * 60 / count,
            payments=(PaymentRow("card", "declined" if n < declined else "accepted", None, None),),
        )
        for n in range(count)
    ]


def test_refusals_of_all_customers_are_one_signal_an_episode() -> None:
    limits = LIMITS.failed_payments.platform
    again = 22 + limits.quiet_min + limits.window_min + 5
    bad = (20, 21, 22, again, again + 1)
    rows = [row for minute in range(60) for row in payments(minute, 30, 25 if minute in bad else 1)]
    assert [each.event_id for each in play(PlatformPayments, None, [rows])] == [
        "minute:2026-11-23T00:21Z",
        f"minute:2026-11-23T00:{again + 1}Z",
    ]


def test_refusals_of_one_payer_say_nothing_about_the_platform() -> None:
    rows = [row for minute in range(9) for row in payments(minute, 30, 15)]
    thief = [row._replace(customer_id="N1") if row.payments[0].outcome == "declined" else row for row in rows]
    assert play(PlatformPayments, None, [rows])
    assert not play(PlatformPayments, None, [thief])


def test_refusals_of_few_say_nothing_about_the_platform() -> None:
    assert not play(PlatformPayments, None, [[row for minute in range(9) for row in payments(minute, 3, 3)]])


@given(
    minutes=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), max_size=30),
    random=st.randoms(use_true_random=False),
)
def test_refusals_of_all_customers_are_the_same_in_any_interleaving(
    minutes: list[tuple[int, int]], random: Random
) -> None:
    rows = [row for minute, (count, declined) in enumerate(minutes) for row in payments(minute, count, declined)]
    partitions = [rows[p::4] for p in range(4)]
    expected = play(PlatformPayments, None, [rows])
    assert content(play(PlatformPayments, None, partitions, random)) == content(expected)
