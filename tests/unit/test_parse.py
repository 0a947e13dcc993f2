"""The parser: every record becomes rows or one readable reason, whatever its bytes are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.beam import parse as parse_module
from include.beam.parse import MAX_REASON, Parsed, Parser, payload_text
from include.beam.source import Records
from include.references import Reference
from tests.bad_events import GOOD, bad_events

PARSER = Parser(
    "sales.orders", {"country": Reference([["country", "country_code", "region"], ["United Kingdom", "GB", "Europe"]])}
)
ARRIVAL = datetime.now(UTC).replace(microsecond=0)
GOOD_BYTES = json.dumps(GOOD, separators=(",", ":")).encode()


def parse(*values: bytes) -> Parsed:
    """The values as records that arrive now, one a second."""
    count = len(values)
    first = int(ARRIVAL.timestamp() * 1000)
    arrivals = [first + 1000 * at for at in range(count)]
    return PARSER.parse(Records(list(range(count)), arrivals, [None] * count, list(values)))


def reason(value: bytes) -> str:
    """Why a value that is no event is rejected; asserts that nothing of it becomes a row."""
    parsed = parse(value)
    assert [table.num_rows for table in parsed.tables.values()] == [0, 0, 0]
    assert list(parsed.reasons) == [0]
    return parsed.reasons[0]


def accepted(value: bytes) -> list[dict[str, Any]]:
    """The lines of an event that is accepted."""
    parsed = parse(value)
    assert parsed.reasons == {}
    return list(parsed.tables["order_line"].to_pylist())


def replaced(old: str, new: str) -> bytes:
    assert GOOD_BYTES.count(old.encode()) == 1
    return GOOD_BYTES.replace(old.encode(), new.encode())


def check_accounts(values: list[bytes], parsed: Parsed) -> None:
    """Delivered = events + reasons; every line belongs to an accepted event, and reasons fit their column."""
    events = set(parsed.events["order_header"].tolist())
    assert len(events) == parsed.tables["order_header"].num_rows
    assert events.isdisjoint(parsed.reasons)
    assert events | set(parsed.reasons) == set(range(len(values)))
    assert set(parsed.events["order_line"].tolist()) == events
    for text in parsed.reasons.values():
        assert text.encode()
        assert len(text) <= MAX_REASON
        assert "\x00" not in text


BAD = bad_events()


@pytest.mark.parametrize(("value", "fragment"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_event_is_a_dead_letter_with_a_reason_that_says_what(value: bytes, fragment: str) -> None:
    assert fragment in reason(value)


def test_good_event_becomes_its_rows() -> None:
    parsed = parse(GOOD_BYTES)
    (header,) = parsed.tables["order_header"].to_pylist()
    assert header == {k: v for k, v in GOOD.items() if k != "lines"} | {
        "event_ts": datetime(2011, 1, 4, 10),
        "country_code": "GB",
        "region": "Europe",
        "session_id": None,
    }
    inherited = {k: header[k] for k in ("event_id", "event_ts", "order_id", "customer_id", "country")}
    assert parsed.tables["order_line"].to_pylist() == [
        inherited | line | {"unit_price": Decimal(str(line["unit_price"]))} for line in GOOD["lines"]
    ]


def test_good_events_among_bad_ones_keep_their_own_rows() -> None:
    second = replaced('"order:BAD"', '"order:2"')
    values = [b"{", GOOD_BYTES, replaced('"quantity":2', '"quantity":2.5'), second, replaced("7.65", "-7.65")]
    parsed = parse(*values)
    check_accounts(values, parsed)
    assert parsed.events["order_header"].tolist() == [1, 3]
    assert parsed.events["order_line"].tolist() == [1, 1, 3, 3]
    assert parsed.tables["order_line"]["event_id"].to_pylist() == ["order:BAD"] * 2 + ["order:2"] * 2


def test_records_are_parsed_alike_whatever_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [b"{", *[GOOD_BYTES] * 4, replaced("7.65", "-7.65"), replaced('"web"', '"sms"'), GOOD_BYTES]
    whole = parse(*values)
    monkeypatch.setattr(parse_module, "BLOCK", 3)
    parts = parse(*values)
    check_accounts(values, parts)
    assert (parts.tables, parts.reasons) == (whole.tables, whole.reasons)
    assert {name: at.tolist() for name, at in parts.events.items()} == {
        n: at.tolist() for n, at in whole.events.items()
    }


@pytest.fixture
def poisonous(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser with a fault that nobody foresaw: it fails on records that hold `poison`."""
    decode = PARSER.decode

    def fail(value: bytes) -> Any:
        if b"poison" in value:
            raise LookupError("no place for it")
        return decode(value)

    monkeypatch.setattr(PARSER, "decode", fail)


@pytest.mark.usefixtures("poisonous")
def test_record_on_which_the_parser_itself_fails_is_a_dead_letter_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parse_module, "BLOCK", 8)
    values = [GOOD_BYTES, b"{broken", b"poison"] * 7
    parsed = parse(*values)
    check_accounts(values, parsed)
    assert parsed.tables["order_header"].num_rows == 7
    poison = [parsed.reasons[at] for at in range(2, 21, 3)]
    assert set(poison) == {"the parser fails on it: LookupError: no place for it"}
    assert "sales.orders: the parser fails on offsets [2, 5]: dead letters" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.usefixtures("poisonous")
def test_parser_that_fails_on_many_records_is_at_fault_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_module, "MOST_POISON", 2)
    parse(GOOD_BYTES, b"poison", b"poison")
    with pytest.raises(LookupError):
        parse(GOOD_BYTES, b"poison", b"poison", b"poison")


def test_lack_of_memory_is_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> Any:
        raise MemoryError

    monkeypatch.setattr(PARSER, "decode", fail)
    with pytest.raises(MemoryError):
        parse(GOOD_BYTES)


def test_one_bad_line_rejects_the_whole_event_and_is_named() -> None:
    assert reason(replaced("7.65", "-7.65")) == "lines[1].unit_price: -7.65 is below the minimum 0"


def test_no_records_give_empty_tables_with_all_columns() -> None:
    parsed = parse()
    assert parsed.reasons == {}
    for table in PARSER.contract.tables:
        assert parsed.tables[table.name].column_names == [column.name for column in table.columns]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("2.55", "1e400", "lines[0].unit_price: 1E+400 does not fit 9 digits and 3 decimals"),
        ("2.55", "0.0001", "lines[0].unit_price: 0.0001 does not fit"),
        ("2.55", "-0.0001", "lines[0].unit_price: -0.0001 does not fit"),
        ("2.55", "2.5555", "lines[0].unit_price: 2.5555 does not fit"),
        ("2.55", "9" * 5_000, "lines[0].unit_price: 9999"),
        ("2.55", '"NaN"', "lines[0].unit_price: NaN does not fit"),
        ("2.55", '"Infinity"', "lines[0].unit_price: Infinity does not fit"),
        ("2.55", '"cheap"', "unit_price"),
        ("2.55", "true", "unit_price"),
        ('"quantity":6', '"quantity":"6"', "quantity"),
        ('"quantity":6', '"quantity":6.0', "quantity"),
        ('"quantity":6', '"quantity":1000000000', "quantity"),
        ('"quantity":6', '"quantity":' + "9" * 5_000, "quantity"),
        ('"line_no":1', '"line_no":0', "line_no"),
        ("HEART", "\\ud83d", "surrogate"),
        ('"currency"', '"\\udc00":1,"currency"', "surrogate"),
        ('"currency"', '"a\\u0000b":1,"currency"', "a\\x00b"),
        ('"currency"', '"' + "k" * 100_000 + '":1,"currency"', "unknown field `kkk"),
        ('"sale"', '"' + "s" * 100_000 + '"', "Invalid enum value 'sss"),
        ('"web"', '"web","deep":' + "[" * 100_000 + "]" * 100_000, "deep"),
        ("2011-01-04T10:00:00Z", "0001-01-01T00:00:00+23:59", "event_ts: 0000-12-31 00:01:00 is before 2009-01-01"),
        ("2011-01-04T10:00:00Z", "9999-12-31T23:59:59-23:59", "event_ts: 10000-01-01 23:58:59 is more than 300 s"),
        ("2011-01-04T10:00:00Z", "2011-01-04T10:00:60Z", "event_ts"),
        ('"2011-01-04T10:00:00Z"', "1294135200", "event_ts"),
    ],
)
def test_extreme_value_is_rejected_with_its_place(old: str, new: str, words: str) -> None:
    value = replaced(old, new)
    assert words in reason(value)
    check_accounts([value], parse(value))


@pytest.mark.parametrize("value", [b"[" * 100_000, b'{"lines":' * 100_000, b'{"x":' + b"[" * 100_000])
def test_deep_nesting_is_rejected(value: bytes) -> None:
    assert reason(value)


@pytest.mark.parametrize(
    ("text", "price"),
    [("2.5500", "2.550"), ("255e-2", "2.550"), ("-0.0", "0.000"), ("999999999.999", "999999999.999"), ("3", "3.000")],
)
def test_price_that_fits_its_decimals_is_exact(text: str, price: str) -> None:
    assert str(accepted(replaced("2.55", text))[0]["unit_price"]).removeprefix("-") == price


def test_price_as_a_decimal_string_is_the_same_exact_number() -> None:
    assert accepted(replaced("2.55", '"2.55"'))[0]["unit_price"] == Decimal("2.550")


def test_nul_in_a_text_is_kept() -> None:
    assert accepted(replaced("HEART", "H\\u0000T"))[0]["description"] == "H\x00T T-LIGHT HOLDER"


def test_line_of_a_large_event_keeps_its_number_in_the_reason() -> None:
    lines = [GOOD["lines"][0] | {"line_no": number} for number in range(1, 5_001)]
    lines[4_321] = lines[4_321] | {"unit_price": -1}
    assert reason(json.dumps(GOOD | {"lines": lines}).encode()).startswith("lines[4321].unit_price: -1 ")


def test_more_lines_than_the_contract_allows_are_rejected() -> None:
    assert "lines" in reason(json.dumps(GOOD | {"lines": [GOOD["lines"][0]] * 10_001}).encode())


@pytest.mark.parametrize(
    ("moment", "is_accepted"),
    [
        (datetime(2009, 1, 1, tzinfo=UTC), True),
        (datetime(2009, 1, 1, tzinfo=UTC) - timedelta(microseconds=1), False),
        (ARRIVAL + timedelta(seconds=300), True),
        (ARRIVAL + timedelta(seconds=300, microseconds=1), False),
    ],
)
def test_event_time_is_accepted_up_to_the_edges_of_its_window(moment: datetime, is_accepted: bool) -> None:
    value = replaced("2011-01-04T10:00:00Z", moment.isoformat())
    assert (parse(value).reasons == {}) is is_accepted


def test_event_time_in_another_zone_is_stored_in_utc() -> None:
    line = accepted(replaced("2011-01-04T10:00:00Z", "2011-01-04T12:30:00.5+02:30"))[0]
    assert line["event_ts"] == datetime(2011, 1, 4, 10, 0, 0, 500_000)


def test_payload_of_a_dead_letter_is_text_and_at_most_what_its_column_takes() -> None:
    assert payload_text(b"H\xff\x00T") == "H\\xff\\x00T"
    assert len(payload_text(b"\x00" * 2_000_000)) == 4_000_000


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_become_rows_or_reasons(values: list[bytes]) -> None:
    check_accounts(values, parse(*values))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
    | st.decimals().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from([*GOOD, "", "colour"])
LINE_FIELDS = st.sampled_from([*GOOD["lines"][0], "colour"])


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid event with values, fields or bytes changed."""
    event = {**GOOD, "lines": [dict(line) for line in GOOD["lines"]]}
    event |= draw(st.dictionaries(FIELDS, JSON_VALUES, max_size=2))
    if isinstance(event["lines"], list) and event["lines"] and isinstance(event["lines"][0], dict):
        event["lines"][0] |= draw(st.dictionaries(LINE_FIELDS, JSON_VALUES, max_size=2))
    for name in draw(st.lists(st.sampled_from(list(event)), max_size=1)):
        del event[name]
    value = bytearray(json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for at, byte in draw(st.dictionaries(st.integers(0, len(value) - 1), st.integers(0, 255), max_size=3)).items():
        value[at] = byte
    return bytes(value[: draw(st.integers(0, len(value)))] if draw(st.booleans()) else value)


@given(st.lists(mutations(), min_size=1, max_size=5))
@example([replaced("2011-01-04T10:00:00Z", "0001-01-01T00:00:00+23:59")])
def test_any_mutation_of_an_event_becomes_rows_or_a_reason(values: list[bytes]) -> None:
    check_accounts([*values, GOOD_BYTES], parsed := parse(*values, GOOD_BYTES))
    assert len(values) not in parsed.reasons
