"""What of a message counts in the stream, and what is told of one that does not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import pytest

from include.beam import live_parse
from include.beam.live_log import Batch
from include.beam.live_parse import TopicParser
from include.beam.live_reasons import DeadLetter
from include.beam.rules.rows import MovementRow, OrderRow
from include.beam.rules.rule import Found, Rule

NOW_MS = 1_795_392_000_000
LINE: dict[str, Any] = {"line_no": 1, "product_id": "A", "quantity": 2, "unit_price": 1.255}
ORDER: dict[str, Any] = {
    "event_id": "o1",
    "event_ts": datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat(),
    "order_id": "o1",
    "order_type": "sale",
    "country": "France",
    "channel": "web",
    "currency": "GBP",
    "lines": [
        LINE,
        {"line_no": 2, "product_id": "B", "quantity": 1, "unit_price": 10},
        {"line_no": 3, "product_id": "A", "quantity": -1, "unit_price": 0.5},
    ],
    "customer_id": "C1",
    "payments": [{"payment_no": 1, "method": "card", "outcome": "accepted", "amount": 12.01}],
}
MOVEMENT = {
    "event_id": "m1",
    "event_ts": ORDER["event_ts"],
    "warehouse_id": "LEEDS",
    "product_id": "A",
    "movement_type": "sale",
    "quantity": -1,
}
READING = {
    "event_id": "r1",
    "event_ts": ORDER["event_ts"],
    "device_id": "LEEDS-t1",
    "warehouse_id": "LEEDS",
    "sensor_type": "temperature",
    "reading": 4.5,
}


class ByCustomer(Rule):
    """Wants each order under its customer."""

    NAME, KINDS, HORIZON_S = "by_customer", (), 0
    ROW: ClassVar[type] = OrderRow

    def keys(self, row: Any) -> Iterable[str]:
        return (f"customer:{row.customer_id}",)

    def observe(self, key: str, row: Any) -> list[Found]:  # noqa: ARG002
        return []

    def dump(self) -> bytes:
        return b""

    def load(self, state: bytes) -> None: ...


class LateToo(ByCustomer):
    """Wants movements, late ones too."""

    NAME, ROW, TAKES_LATE = "late_too", MovementRow, True

    def keys(self, row: Any) -> Iterable[str]:
        return (row.product_id,)


class Broken(ByCustomer):
    """Fails on every order."""

    NAME = "broken"

    def keys(self, row: Any) -> Iterable[str]:
        raise RuntimeError(f"cannot cope with {row.order_id}")


def batch(*events: dict[str, Any] | bytes, topic: str = "sales.orders", arrival_ms: int = NOW_MS) -> Batch:
    values = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return Batch(topic, 3, list(range(7, 7 + len(values))), [arrival_ms] * len(values), values)


def orders(*rules: type[Rule]) -> TopicParser:
    return TopicParser("sales.orders", [rule(None) for rule in rules], {"A": "Lights"})


def rows(shards: live_parse.Shards, name: str) -> list[tuple[str, int, Any]]:
    return [row for shard in shards for row in shard.get(name, [])]


def test_order_becomes_a_row_under_its_key_and_sums_by_category() -> None:
    shards, counted, letters = orders(ByCustomer).parse(batch(ORDER))
    ((key, offset, row),) = rows(shards, "by_customer")
    assert (key, offset) == ("customer:C1", 7)
    assert (row.amount, row.region, row.event_ms, row.payments[0].method) == (12_010, "Europe", NOW_MS, "card")
    (trade,) = counted.trades
    assert (trade.minute, trade.what) == (NOW_MS // 60_000, "o")
    assert trade.lines == [("Lights", 1, 2_010), ("Unknown", 1, 10_000)]
    assert (counted.read, counted.rejected, letters) == (1, {}, [])
    assert shards[live_parse.shard(key)]["by_customer"]


def test_gift_counts_for_rules_but_has_no_lines() -> None:
    shards, counted, *_ = orders(ByCustomer).parse(batch({**ORDER, "order_type": "gift"}))
    assert rows(shards, "by_customer")
    assert (counted.trades[0].what, counted.trades[0].lines) == ("", [])


@pytest.mark.parametrize(
    ("behind_ms", "late", "rejected"),
    [
        (60_000, 0, {}),
        (60_001, 1, {}),
        (-300_000, 0, {}),
        (-300_001, 0, {"sales.orders: event_ts is too far ahead of arrival": 1}),
        (20 * 366 * 86_400_000, 0, {"sales.orders: event_ts is before the contract's earliest": 1}),
    ],
)
def test_time_window_of_an_event_is_exact(behind_ms: int, late: int, rejected: dict[str, int]) -> None:
    event_ts = datetime.fromtimestamp((NOW_MS - behind_ms) / 1000, UTC).isoformat()
    shards, counted, letters = orders(ByCustomer).parse(batch({**ORDER, "event_ts": event_ts}))
    assert (counted.late, counted.rejected, letters) == (late, rejected, [])
    assert len(counted.trades) == len(rows(shards, "by_customer")) == int(not late and not rejected)


def test_late_row_reaches_only_a_rule_that_takes_late_ones() -> None:
    parser = TopicParser("inventory.movements", [LateToo(None)], {})
    shards, counted, *_ = parser.parse(batch(MOVEMENT, topic="inventory.movements", arrival_ms=NOW_MS + 90_000))
    ((_, _, row),) = rows(shards, "late_too")
    assert (row.partition, row.offset, counted.late) == (3, 7, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty message"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (json.dumps({**ORDER, "secret": 1}).encode(), "Object contains unknown field"),
        (json.dumps({**ORDER, "order_type": "unheard-of"}).encode(), "Invalid enum value at `order_type`"),
        (json.dumps({**ORDER, "country": 7}).encode(), "Expected `str`, got `int` at `country`"),
        (
            json.dumps({**ORDER, "lines": [{**LINE, "quantity": "x"}]}).encode(),
            "Expected `int`, got `str` at `lines[].quantity`",
        ),
        (
            json.dumps({**ORDER, "lines": [{**LINE, "unit_price": -1}]}).encode(),
            "unit_price is below 0 or does not fit NUMBER(12,3)",
        ),
        (
            json.dumps({**ORDER, "lines": [{**LINE, "quantity": 999_999_999, "unit_price": 999_999}]}).encode(),
            "the order's amount does not fit NUMBER(18,4)",
        ),
    ],
)
def test_message_that_is_no_event_is_told_by_kind_without_its_content(value: bytes, reason: str) -> None:
    shards, counted, letters = orders(ByCustomer).parse(batch(value, ORDER))
    assert counted.rejected == {f"sales.orders: {reason}": 1}
    assert letters == []
    assert (len(counted.trades), len(rows(shards, "by_customer"))) == (1, 1)


def test_message_on_which_the_code_fails_is_a_dead_letter_and_the_others_count() -> None:
    _, counted, letters = orders(Broken, ByCustomer).parse(batch(ORDER, b"{"))
    assert letters == [DeadLetter("sales.orders", 3, 7, "RuntimeError: cannot cope with o1")]
    assert (counted.read, counted.rejected) == (2, {"sales.orders: not JSON": 1})


@pytest.mark.parametrize("amount", ["1e30", "-1e17", "9223372036854775807", "1e999990", "12.34567"])
def test_payment_that_its_column_cannot_hold_is_rejected_as_the_hour_does(amount: str) -> None:
    text = (
        json.dumps({**ORDER, "payments": [{**ORDER["payments"][0], "amount": 0.125}]}).replace("0.125", amount).encode()
    )
    shards, counted, letters = orders(ByCustomer).parse(batch(text, ORDER))
    assert counted.rejected == {"sales.orders: a payment's amount does not fit NUMBER(18,4)": 1}
    assert (len(rows(shards, "by_customer")), len(counted.trades), letters) == (1, 1, [])


@pytest.mark.parametrize("price", ["1e200000", "1e-200000", "-1", "1e9"])
def test_price_of_any_size_is_rejected_at_once(price: str) -> None:
    text = json.dumps(ORDER).replace("1.255", price).encode()
    assert text != json.dumps(ORDER).encode()
    _, counted, _ = orders().parse(batch(text))
    assert counted.rejected == {"sales.orders: unit_price is below 0 or does not fit NUMBER(12,3)": 1}


@pytest.mark.parametrize("reading", ["1e400", '"NaN"', '"Infinity"', "1e9"])
def test_reading_that_is_no_number_of_its_column_is_rejected(reading: str) -> None:
    text = json.dumps({**READING, "reading": 0.125}).replace("0.125", reading).encode()
    _, counted, letters = TopicParser("iot.readings", [], {}).parse(batch(text, topic="iot.readings"))
    assert (sum(counted.rejected.values()), letters) == (1, [])


def test_what_arrived_before_the_start_is_not_counted_again() -> None:
    parser = TopicParser("sales.orders", [ByCustomer(None)], {}, NOW_MS + 1)
    shards, counted, letters = parser.parse(batch(b"{", ORDER))
    assert (counted.read, counted.rejected, letters) == (0, {}, [])
    assert rows(shards, "by_customer")


def test_message_that_cannot_be_encoded_is_a_dead_letter_and_the_others_go_on() -> None:
    parse = live_parse.ParseBatch([ByCustomer], None, 0)
    parse.setup()
    parse.start_bundle()
    categories: Any = {"A": object()}
    parse.parsers["sales.orders"] = TopicParser("sales.orders", [ByCustomer(None)], categories)
    other = {**ORDER, "lines": [line for line in ORDER["lines"] if line["product_id"] != "A"]}
    given = list(parse.process(batch(ORDER, other), 0))
    (counted,) = [one.value[1] for one in given if one.tag == "counted"]
    assert len(msgspec.msgpack.decode(counted, type=live_parse.Counted).trades) == 1
    (letter,) = [one.value for one in given if one.tag == "letters"]
    assert (letter.offset, letter.reason[:10]) == (7, "TypeError:")
    (rest,) = parse.finish_bundle()
    assert rest.value[1].count(b"customer:C1") == 1
