"""The market as a function of seed, rate and interval, and what it is like."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from local.simulator import shop
from local.simulator.events import (
    BEYOND,
    BOT,
    CUT,
    DUPLICATE,
    IOT,
    KINDS,
    LABELS,
    LATE,
    MOBILE,
    NORMAL,
    ORDERS,
    SKEWED,
    TICKETS,
    TOPICS,
    WEB,
    Events,
)
from local.simulator.market import Market
from local.simulator.pace import DEFAULT_RATE, Pace
from local.simulator.shop import DAY_MS, HOUR_MS
from tests.simulator.conftest import MONDAY_MS, SEED
from tests.simulator.contracts import fault


@pytest.fixture(scope="module")
def day(market: Market) -> Events:
    """A whole Monday at the default rate."""
    return market.events(MONDAY_MS, MONDAY_MS + DAY_MS)


@pytest.fixture(scope="module")
def busy(known: shop.Shop) -> Events:
    """Ten minutes of a Monday's noon at 300 events a second."""
    noon = MONDAY_MS + 12 * HOUR_MS
    return Market(known, Pace.of(SEED, 300)).events(noon, noon + 600_000)


def digest(events: Events) -> str:
    return hashlib.sha256(b"\n".join(events.keys + events.values)).hexdigest()


def parsed(events: Events, topic: int) -> list[dict[str, Any]]:
    """The accepted events of a topic, each once, in the order of sending."""
    rows = np.flatnonzero((events.topic == topic) & (events.kind < CUT) & (events.kind != DUPLICATE))
    return [json.loads(events.values[row]) for row in rows.tolist()]


def test_same_seed_rate_and_interval_give_the_same_bytes(known: shop.Shop) -> None:
    noon = MONDAY_MS + 12 * HOUR_MS
    first, second, other = (
        Market(known, Pace.of(seed, 100)).events(noon, noon + 120_000) for seed in (SEED, SEED, SEED + 1)
    )
    assert digest(first) == digest(second)
    assert not set(first.ids) & set(other.ids)


@pytest.mark.parametrize("rate", [0.5, 5, 400, 6_000])
def test_intervals_that_meet_are_together_the_whole(known: shop.Shop, rate: float) -> None:
    start, length = MONDAY_MS + 11 * HOUR_MS, max(400, int(2_000_000 / rate))
    whole = Market(known, Pace.of(SEED, rate)).events(start, start + length)
    # A new market for the second half: as after a restart.
    cut = start + length // 3 + 17
    parts = [Market(known, Pace.of(SEED, rate)).events(*window) for window in ((start, cut), (cut, start + length))]
    assert parts[0].values + parts[1].values == whole.values
    assert (np.diff(whole.send_ms) >= 0).all()


@pytest.mark.parametrize("rate", [5, 300])
def test_only_second_copies_have_the_id_of_another_event(day: Events, busy: Events, rate: int) -> None:
    events = day if rate == 5 else busy
    first = events.take(np.flatnonzero(events.kind != DUPLICATE))
    assert len(set(first.ids)) == len(first)
    second = np.flatnonzero(events.kind == DUPLICATE).tolist()
    values = dict(zip(first.ids, first.values))
    # The first copy of the earliest ones was sent before the interval.
    assert all(values.get(events.ids[row], events.values[row]) == events.values[row] for row in second)


def test_events_are_what_their_kind_says_to_the_contract(day: Events, busy: Events) -> None:
    for events in (busy, day.take(np.flatnonzero((day.topic != IOT) & (day.topic != WEB)))):
        rows = zip(events.topic.tolist(), events.kind.tolist(), events.send_ms.tolist(), events.values)
        for topic, kind, send_ms, value in rows:
            reason = fault(TOPICS[topic], value, send_ms)
            assert (reason is None) == (kind < BEYOND), (TOPICS[topic], KINDS[kind], reason, value[:300])
    assert set(busy.topic.tolist()) == set(range(len(TOPICS)))


def test_id_key_and_time_of_the_account_are_those_of_the_message(busy: Events) -> None:
    keys = ("visitor_id", "visitor_id", "", "product_id", "device_id", "ticket_id", "product_id", "customer_id")
    for row in np.flatnonzero(busy.kind < CUT).tolist():
        event, topic = json.loads(busy.values[row]), int(busy.topic[row])
        key = event.get(keys[topic]) if topic != ORDERS else event.get("customer_id") or event["order_id"]
        moment = datetime.fromtimestamp(busy.event_ms[row] / 1000, UTC)
        assert (event["event_id"], key) == (busy.ids[row], busy.keys[row].decode())
        assert abs(datetime.fromisoformat(event["event_ts"]) - moment).total_seconds() < 0.001


def test_shares_of_faults_are_those_of_the_description(day: Events, busy: Events) -> None:
    kinds = Counter(day.kind.tolist()) + Counter(busy.kind.tolist())
    total = len(day) + len(busy)
    assert 0.027 < kinds[LATE] / total < 0.033
    assert 0.009 < kinds[DUPLICATE] / total < 0.011
    assert 0.0045 < sum(kinds[kind] for kind in range(CUT, len(KINDS))) / total < 0.0055
    assert all(kinds[kind] for kind in range(len(KINDS)))


def test_late_is_what_comes_more_than_a_minute_after_it_happened(day: Events) -> None:
    lag = day.send_ms - day.event_ms
    assert (lag[day.kind == LATE] > 60_000).all()
    assert (lag[day.kind == NORMAL] <= 60_000).all()
    assert (abs(lag[day.kind == SKEWED]) < 300_000).all()
    late = lag[day.kind == LATE]
    assert (late < HOUR_MS).any()
    assert (late > DAY_MS).any()


def test_events_come_out_of_order(day: Events) -> None:
    of_web = day.event_ms[(day.topic == WEB) & (day.kind == NORMAL)]
    assert (np.diff(of_web) < 0).mean() > 0.01


def test_labels_and_kinds_are_in_no_message(busy: Events) -> None:
    words = re.compile(rf"\b({'|'.join((*LABELS[1:], 'duplicate', 'malformed', 'skewed', 'late'))})\b".encode())
    told = [value for value in busy.values if words.search(value) and b'"reason":"late"' not in value]
    assert not told


def test_whole_is_as_many_events_a_second_as_asked_for_at_any_hour(day: Events, busy: Events) -> None:
    assert abs(len(day) / (DAY_MS / 1000) / DEFAULT_RATE - 1) < 0.1
    by_hour = np.bincount((day.send_ms - MONDAY_MS) // HOUR_MS)
    assert by_hour.min() > 0.6 * by_hour.mean()
    assert abs(len(busy) / 600 / 300 - 1) < 0.15


def test_orders_go_on_at_the_pace_of_the_historys_weekday(known: shop.Shop, market: Market) -> None:
    found: dict[int, list[int]] = defaultdict(list)
    for at in range(28):
        orders = market.trade.orders.day(MONDAY_MS // DAY_MS + at)
        found[at % 7].append(sum(order.order_type != shop.DECLINED for order in orders))
    expected = known.hourly.sum(axis=1)
    for weekday, counts in found.items():
        assert abs(np.mean(counts) - expected[weekday]) <= 0.25 * expected[weekday], weekday
    # Six weeks of 2011 before the last, half day; no shop on Saturdays.
    assert [round(level) for level in expected] == [129, 144, 143, 156, 128, 0, 88]


def test_baskets_and_returns_are_as_in_the_history(known: shop.Shop, market: Market) -> None:
    b, recent = known.baskets, known.recent
    orders = [order for at in range(28) for order in market.trade.orders.day(MONDAY_MS // DAY_MS + at)]
    orders = [order for order in orders if order.order_type != shop.DECLINED]
    returns = np.mean([order.order_type == shop.RETURN for order in orders])
    amounts = [abs(int(b.amount_mills[order.basket])) for order in orders]
    assert abs(returns - np.mean(b.order_type[recent] == shop.RETURN)) < 0.03
    assert abs(np.median(amounts) / np.median(abs(b.amount_mills[recent])) - 1) < 0.15
    at_home = np.mean([order.country == "United Kingdom" for order in orders])
    assert 0.85 < at_home < 0.95


def test_orders_have_sessions_in_which_every_line_was_looked_at_and_put_into_the_cart(day: Events) -> None:
    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for topic in (WEB, MOBILE):
        for event in parsed(day, topic):
            sessions[event["session_id"]].append(event)
    late = {day.ids[row] for row in np.flatnonzero(day.kind == LATE).tolist()}
    checked = 0
    for order in parsed(day, ORDERS):
        events = sessions.get(order.get("session_id", ""))
        if order["order_type"] != "sale" or order["channel"] == "store":
            continue
        products = {line["product_id"] for line in order["lines"]}
        # Sessions of yesterday or with an event that was lost on the way are left out.
        if not events or len(products) > 80 or len(events) != 2 * len(products) + 3:
            continue
        at = {(e["interaction_type"], e.get("product_id")): e for e in events if e["event_id"] not in late}
        if len(at) < len(events) or any(day.kind[day.ids.index(e["event_id"])] != NORMAL for e in events):
            continue
        for product in products:
            seen, put = at["product_view", product], at["add_to_cart", product]
            assert seen["event_ts"] <= put["event_ts"] <= at["checkout", None]["event_ts"]
        purchase = at["purchase", None]
        assert purchase["order_id"] == order["order_id"]
        assert purchase.get("customer_id") == order.get("customer_id")
        checked += 1
    assert checked > 20


def test_visitors_look_at_what_sells_and_more_in_their_evening(known: shop.Shop, day: Events) -> None:
    people = day.label != BOT
    of_web = day.take(np.flatnonzero((day.topic <= MOBILE) & people & (day.kind == NORMAL)))
    by_hour = np.bincount((of_web.send_ms - MONDAY_MS) // HOUR_MS, minlength=24)
    assert by_hour[18:22].mean() > 3 * by_hour[1:5].mean()
    views = Counter(
        event["product_id"] for value in of_web.values if (event := json.loads(value)).get("product_id") is not None
    )
    popular = {known.products[at] for at in np.argsort(-known.weights)[:200].tolist()}
    assert sum(views[product] for product in popular) > 0.25 * views.total()


def test_bots_crawl_fast_and_buy_nothing(day: Events) -> None:
    bots = day.take(np.flatnonzero((day.label == BOT) & (day.kind == NORMAL)))
    acts = Counter(json.loads(value)["interaction_type"] for value in bots.values)
    assert acts["product_view"] > 0.97 * acts.total()
    assert acts["purchase"] == acts["add_to_cart"] == 0
    assert len(bots) / (np.diff(bots.send_ms).sum() / 1000) > 0.3


def test_stolen_cards_pay_often_within_minutes_to_countries_that_are_not_their_own(known: shop.Shop) -> None:
    market = Market(known, Pace.of(SEED, 50))
    stolen = [
        order
        for at in range(20)
        for order in market.trade.orders.day(MONDAY_MS // market.pace.day_ms + at)
        if LABELS[order.label] == "stolen_card"
    ]
    by_card = defaultdict(list)
    for order in stolen:
        by_card[order.card].append(order)
    assert max(map(len, by_card.values())) >= 3
    for orders in by_card.values():
        assert all(order.country != order.billing_country for order in orders)
        if len(orders) > 1:
            assert len({order.country for order in orders}) == 2
    usual = np.median(known.baskets.amount_mills[known.recent])
    assert np.median([known.baskets.amount_mills[order.basket] for order in stolen]) > 2 * usual


def test_abusers_of_refunds_get_their_money_back_for_whole_baskets(known: shop.Shop) -> None:
    market = Market(known, Pace.of(SEED, 50))
    orders = [
        order
        for at in range(20)
        for order in market.trade.orders.day(MONDAY_MS // market.pace.day_ms + at)
        if LABELS[order.label] == "refund_abuse"
    ]
    by_customer = defaultdict(list)
    for order in orders:
        by_customer[order.customer_id].append(order)
    assert max(map(len, by_customer.values())) >= 4
    refunded = [order for order in orders if order.order_type == shop.RETURN]
    assert refunded
    for order in refunded:
        bought = next(o for o in by_customer[order.customer_id] if o.basket == order.basket and o is not order)
        assert bought.order_ms < order.order_ms
        event = json.loads(f"{{{market.trade.orders.event(order).body}}}")
        assert all(line["quantity"] < 0 for line in event["lines"])
        assert [(p["outcome"], p["amount"] < 0) for p in event["payments"]] == [("refunded", True)]


def test_payments_of_an_order_end_with_what_became_of_it(day: Events) -> None:
    wanted = {"sale": "accepted", "return": "refunded", "declined": "declined"}
    orders = parsed(day, ORDERS)
    for order in orders:
        if order["order_type"] not in wanted:
            assert "payments" not in order
            continue
        outcomes = [payment["outcome"] for payment in order["payments"]]
        assert outcomes[-1] == wanted[order["order_type"]]
        assert set(outcomes[:-1]) <= {"declined"}
        total = sum(Decimal(str(line["unit_price"])) * line["quantity"] for line in order["lines"])
        assert Decimal(str(order["payments"][-1]["amount"])) == total
        assert all(("card_hash" in payment) == (payment["method"] == "card") for payment in order["payments"])
    assert {order["order_type"] for order in orders} >= {"sale", "return"}


def test_campaigns_bring_visitors_who_look_at_what_is_advertised(known: shop.Shop, busy: Events) -> None:
    sessions = defaultdict(list)
    for topic in (WEB, MOBILE):
        for event in parsed(busy, topic):
            sessions[event["session_id"]].append(event)
    category_of = dict(zip(known.products, known.categories.tolist()))
    shares = {True: Counter[bool](), False: Counter[bool]()}
    for events in sessions.values():
        first = min(events, key=lambda event: event["event_ts"])
        for event in events:
            if event["interaction_type"] == "product_view":
                shares[first.get("campaign") == "christmas"][category_of[event["product_id"]] == 0] += 1
    led, others = (counts[True] / counts.total() for counts in (shares[True], shares[False]))
    assert led > 2 * others


def test_tickets_are_answered_and_closed_in_order(market: Market) -> None:
    steps: dict[str, list[dict[str, Any]]] = defaultdict(list)
    events = [event for at in range(12) for event in market.trade.tickets.events(MONDAY_MS // DAY_MS + at)]
    for event in sorted(events, key=lambda event: event.event_ms):
        assert event.topic == TICKETS
        steps[event.key].append(json.loads(f"{{{event.body}}}"))
    whole = [found for found in steps.values() if found[0]["action"] == "opened" and found[-1]["action"] == "closed"]
    assert len(whole) > 20
    for found in whole:
        assert [step["action"] for step in found if step["action"] != "escalated"] == ["opened", "answered", "closed"]
        assert len({step["order_id"] for step in found}) == 1
    assert {found[0]["reason"] for found in whole} >= {"late", "refund", "question"}
    assert any("satisfaction" in found[-1] for found in whole)
