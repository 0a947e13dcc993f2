"""Offers to customers who left a cart: what fits and is there, to who wants it, once a week."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include import signals
from include.signals import Signal
from tests.functions.running import Function, Live
from tests.stand_ins import Snowflake, until

Start = Callable[..., Function]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def shop(warehouse: Snowflake) -> Callable[..., list[dict[str, Any]]]:
    """Customers, what is bought with TEA, what is on shelves; returns a query's rows."""
    session = warehouse.open()
    try:
        for table in ("core.customer", "marts.product_affinity", "marts.stock_hourly", "ops.offer"):
            session.run(f"delete from {table}")
        customers = "('willing', true, true), ('other', true, true), ('unwilling', false, true), ('was', true, false)"
        session.run(f"insert into core.customer (customer_id, accepts_marketing, is_current) values {customers}")
        pairs = "('TEA', 'GONE', 9, 50), ('TEA', 'POT', 5, 40), ('TEA', 'CUP', 4, 40), ('TEA', 'CAKE', 1.1, 90)"
        columns = "product_id, other_product_id, lift, orders_together"
        session.run(f"insert into marts.product_affinity ({columns}) values {pairs}")
        shelves = "('LEEDS', 'POT', 3), ('LEEDS', 'CUP', 9), ('LEEDS', 'CAKE', 9), ('LEEDS', 'GONE', 0)"
        session.run(
            "insert into marts.stock_hourly (warehouse_id, product_id, change, event_hour) "
            f"select column1, column2, column3, '2026-11-29 10:00:00' from values {shelves}"
        )
    finally:
        session.close()

    def ask(sql: str) -> list[dict[str, Any]]:
        own = warehouse.open()
        try:
            return own.rows(sql)
        finally:
            own.close()

    return ask


def left(live: Live, name: str, customer_id: str | None, products: list[str], days: int = 0) -> None:
    at = NOW + timedelta(days=days)
    number, trace = signals.signal_id("cart_left", name, name), signals.trace_id(name)
    features = {"products": products, "customer_id": customer_id}
    one = Signal(number, "cart_left", name, name, at, at, at, trace, features)
    live.publish("signals.cart", signals.encode(one), kind=one.kind, trace_id=trace)


def test_offers_go_to_who_wants_them_once_a_week_of_what_fits_and_is_there(
    live: Live, start: Start, settings: dict[str, str], shop: Callable[..., list[dict[str, Any]]]
) -> None:
    own = start("personal_offer", **settings)
    sent: list[tuple[str, str | None, list[str], int, str]] = [
        ("session:1", "willing", ["TEA"], 0, "POT"),
        ("session:1", "willing", ["TEA"], 0, "made before"),
        ("session:2", "willing", ["TEA"], 3, "none: there was one within a week"),
        ("session:3", "willing", ["TEA", "POT"], 8, "CUP"),
        ("session:4", "unwilling", ["TEA"], 0, "none: no consent"),
        ("session:5", "was", ["TEA"], 0, "none: no consent"),
        ("session:6", "unknown", ["TEA"], 0, "none: no consent"),
        ("session:7", None, ["TEA"], 0, "none: nobody was signed in"),
        ("session:8", "other", ["SOCKS"], 0, "none: nothing that fits is on a shelf"),
        ("session:9", "other", [], 0, "none: the cart is empty"),
    ]
    for count, (name, customer_id, products, days, offer) in enumerate(sent, 1):
        left(live, name, customer_id, products, days)
        until(lambda count=count: len(own.lines) == count, f"{name} is answered")  # type: ignore[misc]
        assert (own.lines[-1].get("offer"), own.lines[-1]["status"]) == (offer, 204), own.lines[-1]
    made = shop("select customer_id, product_id, left_product_id from ops.offer order by left_ts")
    assert [tuple(row.values()) for row in made] == [("willing", "POT", "TEA"), ("willing", "CUP", "TEA")]


def test_two_carts_of_one_customer_at_once_have_one_offer(
    live: Live, start: Start, settings: dict[str, str], shop: Callable[..., list[dict[str, Any]]]
) -> None:
    own = start("personal_offer", **settings)
    for number in range(4):
        left(live, f"session:at-once-{number}", "willing", ["TEA"])
    until(lambda: sum(line["status"] == 204 for line in own.lines) == 4, "all are answered")
    assert len(shop("select * from ops.offer")) == 1


def test_offer_is_made_while_alerts_are_booked_and_looked_for_while_another_is_made(
    live: Live,
    start: Start,
    settings: dict[str, str],
    shop: Callable[..., list[dict[str, Any]]],
    warehouse: Snowflake,
) -> None:
    own, other = start("personal_offer", **settings), warehouse.open()
    for lock, name, products, offer in (
        ("alert_lock", "session:a", ["TEA"], "POT"),
        ("offer_lock", "session:b", ["SOCKS"], "none: nothing that fits is on a shelf"),
    ):
        with other.transaction():
            other.run(f"update ops.{lock} set taken = taken + 1")
            before = len(own.lines)
            left(live, name, "other", products, days=0 if offer == "POT" else 8)
            until(lambda before=before: len(own.lines) > before, f"{name} is answered")  # type: ignore[misc]
            assert own.lines[-1].get("offer") == offer, own.lines[-1]
    other.close()
    assert len(shop("select * from ops.offer")) == 1
