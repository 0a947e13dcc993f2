"""Cells as people write them, and mappings that do not fit. No broker needed: test_files.py has one."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.files import mapping
from local.files.mapping import MappingError
from local.files.values import Dates, Numbers, Unreadable, boolean, integer, number, text, timestamp

GERMAN = Numbers(decimal=",", thousands=".", strip=("€", "GBP"))
BERLIN = Dates("Europe/Berlin", ("%d.%m.%Y %H:%M", "iso", "epoch_ms"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1.234,50", "1234.50"),
        ("1234,5", "1234.5"),
        ("€ 12,", "12"),
        (",5 GBP", "0.5"),
        ("-3,10", "-3.10"),
        ("3,10-", "-3.10"),
        ("1.000.000", "1000000"),
        (2.55, "2.55"),
        (7, "7"),
        (Decimal("1.2300"), "1.2300"),
    ],
)
def test_number_is_read_exactly_as_written(cell: Any, expected: str) -> None:
    assert str(number(cell, GERMAN)) == expected


@pytest.mark.parametrize("cell", ["1.23", "1,234.50", "12 3", "1.2345,0", "", ",", "1e3", "NaN", "٣", "--1", "x"])
def test_number_of_another_notation_is_an_error_and_not_another_number(cell: str) -> None:
    with pytest.raises(Unreadable, match="is no number"):
        number(cell, GERMAN)


def test_thousands_may_be_spaces_of_any_kind() -> None:
    french = Numbers(decimal=",", thousands=" ")
    assert [number(f"12{space}345,6", french) for space in " \u00a0\u202f"] == [Decimal("12345.6")] * 3


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_number_survives_being_written_with_comma_and_points(value: Decimal) -> None:
    written = f"{value:,}".replace(",", "_").replace(".", ",").replace("_", ".")
    assert number(written, GERMAN) == value


def test_half_a_piece_is_no_whole_number_and_two_point_zero_is() -> None:
    assert integer("2,0", GERMAN) == 2
    with pytest.raises(Unreadable, match="whole"):
        integer("2,5", GERMAN)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("03.11.2025 14:05", "2025-11-03T13:05:00Z"),
        ("03.07.2025 14:05", "2025-07-03T12:05:00Z"),
        ("26.10.2025 02:30", "2025-10-26T00:30:00Z"),  # comes twice: the first is meant
        ("2025-11-03T14:05:00-05:00", "2025-11-03T19:05:00Z"),
        ("1762178700123", "2025-11-03T14:05:00.123000Z"),
        (datetime(2025, 11, 3, 14, 5), "2025-11-03T13:05:00Z"),
        (datetime(2025, 11, 3, 14, 5, tzinfo=UTC), "2025-11-03T14:05:00Z"),
        (date(2025, 11, 3), "2025-11-02T23:00:00Z"),
    ],
)
def test_time_becomes_utc(cell: Any, expected: str) -> None:
    assert timestamp(cell, BERLIN) == expected


@pytest.mark.parametrize(("cell", "words"), [("30.03.2025 02:30", "does not exist"), ("31.02.2025 10:00", "no time")])
def test_time_that_no_clock_has_shown_is_an_error(cell: str, words: str) -> None:
    if "exist" in words:
        assert timestamp("30.03.2025 03:30", BERLIN) == "2025-03-30T01:30:00Z"
    with pytest.raises(Unreadable, match=words):
        timestamp(cell, BERLIN)


def test_text_is_trimmed_and_null_words_are_null() -> None:
    cells = ["\u00a017850 ", "n/a", "  ", None, float("nan"), 17850.0, 7]
    assert [text(cell, ["n/a"]) for cell in cells] == ["17850", None, None, None, None, "17850", "7"]


def test_truth_is_one_of_known_words() -> None:
    assert [boolean(cell) for cell in (True, "Yes", "0", "F", 1)] == [True, True, False, False, True]
    with pytest.raises(Unreadable):
        boolean("ja")


WHOLE = """
topic: sales.orders
dates: {zone: UTC}
event:
  event_id: {template: "x:{id}"}
  event_ts: at
  order_id: id
  order_type: {constant: sale}
  country: {constant: NO}
  channel: {constant: web}
  currency: {constant: GBP}
  lines: {rows: {line_no: {position: true}, product_id: p, quantity: q, unit_price: u}}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sales.orders", "sales.order", "no contract for topic 'sales.order'"),
        ("order_id: id", "order: id", "event.order: sales.orders has no such field; it has event_id"),
        ("  order_id: id\n", "", "event: order_id is required by sales.orders and not mapped"),
        ("quantity: q, ", "", "event: lines.quantity is required"),
        ("{constant: web}", "{constant: web, column: c}", "event.channel: give one of column"),
        ("{constant: web}", "{colum: c}", "unknown field `colum`"),
        ("lines: {rows: {", "lines: {fields: {", "event.lines: is array, which needs `rows`"),
        ("{zone: UTC}", "{zone: Mars/Olympus}", "no time zone 'Mars/Olympus'"),
        ("dates: {zone: UTC}\n", "", "event.event_ts: say how times are written"),
        ("event:", "event: [", "expected|while parsing"),
    ],
)
def test_mapping_that_does_not_fit_its_contract_says_where(tmp_path: Path, old: str, new: str, words: str) -> None:
    file = tmp_path / "orders.map.yaml"
    file.write_text(WHOLE)
    assert mapping.read(file)[1][4].field.constant == "NO"
    file.write_text(WHOLE.replace(old, new, 1))
    with pytest.raises(MappingError) as caught:
        mapping.read(file)
    assert str(file) in str(caught.value)
    assert any(word in str(caught.value) for word in words.split("|")), caught.value
