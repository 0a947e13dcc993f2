"""The real history as events. No broker needed: tests/stack/test_live.py has one."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.simulator import history, producer, replay

# Of all keys and values in original time. A change here changes what every replay sends: it needs a reason.
ORIGINAL_SHA256 = "76653a14556f62297c559568cffb709bc05d82b345e392edfb8e17acb5b04360"


@pytest.fixture(scope="module")
def messages() -> list[tuple[bytes, bytes]]:
    return list(replay.orders(0))


@pytest.fixture(scope="module")
def events(messages: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    return [json.loads(value, parse_float=Decimal) for _, value in messages]


def amount(event: dict[str, Any]) -> Decimal:
    return sum((line["quantity"] * Decimal(line["unit_price"]) for line in event["lines"]), Decimal(0))


def test_history_adds_up_to_the_published_totals(events: list[dict[str, Any]]) -> None:
    assert len(events) == 25_900
    assert sum(len(event["lines"]) for event in events) == 541_909
    assert sum(map(amount, events)) == Decimal("9747747.934")
    assert len({event["customer_id"] for event in events} - {None}) == 4_372
    assert len({line["product_id"] for event in events for line in event["lines"]}) == 4_070


def test_history_without_negative_prices_is_what_the_platform_accepts(events: list[dict[str, Any]]) -> None:
    accepted = [event for event in events if min(line["unit_price"] for line in event["lines"]) >= 0]
    assert {event["order_id"] for event in events} - {event["order_id"] for event in accepted} == {"A563186", "A563187"}
    assert sum(len(event["lines"]) for event in accepted) == 541_907
    assert sum(map(amount, accepted)) == Decimal("9769872.054")


def test_months_in_original_time_have_their_known_sales(events: list[dict[str, Any]]) -> None:
    by_month: Counter[str] = Counter()
    for event in events:
        by_month[event["event_ts"][:7]] += amount(event)  # type: ignore[assignment]
    assert by_month["2010-12"] == Decimal("748957.020")
    assert by_month["2011-01"] == Decimal("560000.260")


def test_every_line_of_the_file_is_sent_in_file_order(events: list[dict[str, Any]]) -> None:
    sent = [
        (e["order_id"], line["product_id"], line["description"], line["quantity"], Decimal(line["unit_price"]))
        for e in events
        for line in e["lines"]
    ]
    columns = "invoice_no, stock_code, description, quantity, unit_price"
    with duckdb.connect() as connection:
        rows = connection.execute(f"select {columns} from read_parquet(?)", [str(history.DATA)]).fetchall()
    rows.sort(key=lambda row: row[0])
    sent.sort(key=lambda row: row[0])
    assert sent == rows
    for event in events:
        assert [line["line_no"] for line in event["lines"]] == list(range(1, len(event["lines"]) + 1))


def test_events_come_by_time_and_then_by_order(events: list[dict[str, Any]]) -> None:
    places = [(event["event_ts"], event["order_id"]) for event in events]
    assert places == sorted(set(places))
    assert places[0] == ("2010-12-01T08:26:00Z", "536365")
    assert places[-1][0] == "2011-12-09T12:50:00Z"


def test_order_type_tells_returns_adjustments_and_gifts_apart(events: list[dict[str, Any]]) -> None:
    assert Counter(event["order_type"] for event in events) == {
        "sale": 19_959,
        "return": 3_836,
        "adjustment": 1_339,
        "gift": 766,
    }
    for event in events:
        quantities = [line["quantity"] for line in event["lines"]]
        match event["order_type"]:
            case "return":
                assert event["order_id"].startswith("C")
                assert max(quantities) < 0
            case "adjustment":
                assert event["order_id"].startswith("A") or (amount(event) == 0 and max(quantities) < 0)
            case "gift":
                assert amount(event) == 0
                assert min(quantities) > 0
            case "sale":
                assert amount(event) > 0
                assert min(quantities) > 0


def test_key_is_the_customer_or_for_guests_the_order(messages: list[tuple[bytes, bytes]]) -> None:
    guests = 0
    for key, value in messages:
        event = json.loads(value)
        assert key.decode() == (event["customer_id"] or event["order_id"])
        guests += event["customer_id"] is None
    assert guests == 3_710


def test_first_event_has_the_agreed_shape(messages: list[tuple[bytes, bytes]]) -> None:
    key, value = messages[0]
    assert key == b"17850"
    assert value.startswith(
        b'{"event_id":"order:536365","event_ts":"2010-12-01T08:26:00Z","order_id":"536365","order_type":"sale",'
        b'"customer_id":"17850","country":"United Kingdom","channel":"web","currency":"GBP","lines":[{"line_no":1,'
        b'"product_id":"21730","description":"GLASS STAR FROSTED T-LIGHT HOLDER","quantity":6,"unit_price":4.25},'
    )


def test_same_shift_gives_the_same_bytes(messages: list[tuple[bytes, bytes]]) -> None:
    digest = hashlib.sha256(b"".join(itertools.chain.from_iterable(messages))).hexdigest()
    assert digest == ORIGINAL_SHA256


def test_shift_moves_only_the_time(events: list[dict[str, Any]]) -> None:
    for original, (_, value) in zip(events, replay.orders(780), strict=True):
        moved = json.loads(value, parse_float=Decimal)
        assert datetime.fromisoformat(moved["event_ts"]) - datetime.fromisoformat(original["event_ts"]) == timedelta(
            weeks=780
        )
        assert moved | {"event_ts": original["event_ts"]} == original


@given(st.dates(date(2011, 12, 10), date(2100, 1, 1)))
def test_shifted_history_ends_on_the_last_friday_before_today(today: date) -> None:
    last_day = history.LAST_DAY + timedelta(weeks=replay.shift_weeks(today))
    assert last_day.isoweekday() == 5
    assert timedelta(0) < today - last_day <= timedelta(days=7)


def test_missing_data_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(history, "DATA", tmp_path / "online_retail.parquet")
    with pytest.raises(FileNotFoundError, match=r"online_retail\.parquet.*git checkout"):
        next(replay.orders(0))


def test_broker_that_is_down_is_named_with_what_to_do() -> None:
    with pytest.raises(producer.BrokerUnreachable, match=r"127\.0\.0\.1:1 .*make logs S=kafka"):
        producer.check_topic("127.0.0.1:1", "sales.orders", timeout_s=0.5)
