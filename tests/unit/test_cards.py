"""Card numbers are masked wherever someone may have put one, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include import references
from include.beam import cards
from include.beam.parse import Parser
from include.beam.plan import Chunk, Plan
from include.beam.sink import write_chunk
from include.beam.source import Records
from include.contracts.contract import Column, Table, contract, topics
from include.references import Reference

NUMBER = "4111111111111111"
COUNTRY = Reference([["country", "country_code", "region"]])
TICKET = {
    "event_id": "t1",
    "event_ts": "2011-01-04T10:00:00Z",
    "ticket_id": "T1",
    "action": "opened",
    "reason": "payment",
    "channel": "mail",
}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111111111111111", "************1111"),
        ("my card 5500 0000 0000 0004, thanks", "my card **** **** **** 0004, thanks"),
        ("3782-822463-10005.", "****-******-*0005."),
        ("é 6011000990139424 ü", "é ************9424 ü"),
        ("2221000000000009", "************0009"),
        ("4111 1111 1111 1111 12/27", "**** **** **** 1111 12/27"),
        ("order 23 4111111111111111 7", "order 23 ************1111 7"),
        ("no.4111111111111111", "no.************1111"),
        ("4111111111111111-5500000000000004", "************1111-************0004"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "* * * * * * * * * * * * 1 1 1 1"),
    ],
)
def test_card_number_keeps_its_last_four_digits(text: str, masked: str) -> None:
    assert cards.mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "1763892000123456",
        "411111111111",
        "0.4111111111111111",
        "S1763892000-4",
        "41111111111111111111",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert cards.mask_text(text) == text


@given(st.binary(max_size=200))
def test_masking_keeps_the_length_and_is_stable(value: bytes) -> None:
    once = cards.mask(value)
    assert len(once) == len(value)
    assert cards.mask(once) == once


def test_free_text_is_masked_in_its_row_and_the_message_is_named_for_the_archive() -> None:
    texts = ["all fine", "charged twice on 4111 1111 1111 1111", None]
    values = [json.dumps(TICKET | {"event_id": f"t{at}", "text": text}).encode() for at, text in enumerate(texts)]
    parsed = Parser("support.tickets", {"country": COUNTRY}).parse(
        Records([0, 1, 2], [1795431186000] * 3, [None] * 3, values)
    )
    assert parsed.tables["support_ticket"]["message"].to_pylist() == [
        "all fine",
        "charged twice on **** **** **** 1111",
        None,
    ]
    assert parsed.masked == {1}


def test_dead_letter_shows_no_card_number_in_reason_or_payload() -> None:
    value = json.dumps(TICKET | {"4111111111111111": 1}).encode()
    parsed = Parser("support.tickets", {"country": COUNTRY}).parse(Records([0], [1795431186000], [None], [value]))
    assert "************1111" in parsed.reasons[0]


@pytest.mark.parametrize(
    "identifier",
    [
        NUMBER,
        "4111-1111-1111-1111",
        "3782 822463 10005",
        f"order:{NUMBER}",
        f"order:{NUMBER}:2",
        "2223003122003222",
        "6011000990139424",
        "3530111333300000",
        "30569309025904",
    ],
)
def test_card_number_is_found_in_an_identifier(identifier: str) -> None:
    assert cards.is_in_identifier(identifier)
    assert cards.suspects(pa.array(["x", identifier]), are_identifiers=True) == [1]


@pytest.mark.parametrize(
    "identifier",
    [
        f"s-{NUMBER}",
        f"web:{NUMBER}-17",
        f"o{NUMBER}",
        f"{NUMBER}a",
        f"4111{NUMBER}",
        "4222222222222",
        "4111111111111112",
        "1763892000123452",
        "550e8400-e29b-4111-9111-111111111111",
        "9e107d9d372bb6826bd81d3542a419d6",
        "S1763892000-4",
        "85123A",
    ],
)
def test_other_identifiers_have_none(identifier: str) -> None:
    assert not cards.is_in_identifier(identifier)


@given(st.lists(st.none() | st.text(alphabet="0124589 -a:", max_size=40), max_size=20), st.integers(0, 5))
def test_no_number_is_missed_among_many_texts(texts: list[str | None], start: int) -> None:
    array = pa.array(["x", *texts, NUMBER, None], pa.string())[start:]
    for are_identifiers in (False, True):
        near = cards.suspects(array, are_identifiers=are_identifiers)
        found = {
            row
            for row, text in enumerate(array.to_pylist())
            if text and (cards.is_in_identifier(text) if are_identifiers else cards.mask_text(text) != text)
        }
        assert found <= set(near) <= {row for row, text in enumerate(array.to_pylist()) if text and len(text) >= 13}


TEXTS = [
    pytest.param(topic, table, column, id=f"{topic}:{table.name}.{column.name}")
    for topic in topics()
    for table in contract(topic).tables
    for column in table.columns
    if column.is_text and (column.max_length or 0) >= len(NUMBER)
]


def made(table: Table, own: Column | None, text: str) -> dict[str, Any]:
    """What a table needs of an event, and the text in its own column."""
    values: dict[str, Any] = {"integer": 1, "number": 1, "timestamp": "2011-01-04T10:00:00Z", "boolean": True}
    fields: dict[str, Any] = {}
    for column in table.columns:
        if column.is_sent and (column.is_required or column == own or "." in column.path):
            *above, leaf = column.path.split(".")
            node = fields
            for name in above:
                node = node.setdefault(name, {})
            other = column.enum[0] if column.enum else ("x" * 16)[: column.max_length]
            node[leaf] = text if column == own else values.get(column.kind, other)
    return fields


def stored(topic: str, table: Table, column: Column, text: str, folder: Path) -> tuple[dict[str, list[Any]], int]:
    """All that the store has of an event with this text in this column: {file's folder: rows}; how many were dead."""
    event: dict[str, Any] = {}
    for each in contract(topic).tables:
        own = made(each, column if each == table else None, text)
        event |= own if each.part is None else {each.part: own if each.is_object else [own]}
    value = json.dumps(event, ensure_ascii=False).encode().replace(b"4111", rb"\u00341\u00311")
    store = folder.as_uri()
    plan = Plan("hour-cards", store, (), references.pin(store))
    key = event.get(contract(topic).key[0], "")
    result = write_chunk(
        plan, Chunk("hour-cards", topic, 0, 0, 1), Records([0], [1795431186000], [key.encode()], [value])
    )
    found = {
        str(path.parent.relative_to(folder)): pq.read_table(path).to_pylist() for path in folder.rglob("*.parquet")
    }
    return found, result.dead_letters


@pytest.mark.parametrize(("topic", "table", "column"), TEXTS)
def test_no_text_column_lets_a_card_number_into_the_store(
    topic: str, table: Table, column: Column, tmp_path: Path
) -> None:
    found, dead_letters = stored(topic, table, column, NUMBER, tmp_path)
    assert f"archive/{topic}/0" in found
    assert "411111" not in repr(found)
    assert r"\u0034" not in repr(found)
    assert repr(found).count("************1111") >= 2, "its row, and the archive"
    assert dead_letters == int(column.is_identifier)
    if column.is_identifier:
        (letter,) = found["loads/hour-cards/dead_letter"]
        assert letter["reason"].endswith(f"{column.path}: a card number in an identifier, send a token in its place")


@pytest.mark.parametrize(("topic", "table", "column"), TEXTS)
def test_no_text_column_loses_what_is_no_card_number(topic: str, table: Table, column: Column, tmp_path: Path) -> None:
    found, dead_letters = stored(topic, table, column, "4111111111111112", tmp_path)
    assert dead_letters == 0
    (row,) = found[f"loads/hour-cards/{table.name}"]
    assert row[column.name] == "4111111111111112"


def test_card_number_as_a_messages_key_is_masked_in_the_archive(tmp_path: Path) -> None:
    values = [json.dumps(TICKET | {"event_id": f"t{at}"}).encode() for at in range(3)]
    plan = Plan("hour-cards", tmp_path.as_uri(), (), references.pin(tmp_path.as_uri()))
    keys = [b"17850", NUMBER.encode(), None]
    write_chunk(
        plan, Chunk("hour-cards", "support.tickets", 0, 0, 3), Records([0, 1, 2], [1795431186000] * 3, keys, values)
    )
    (path,) = (tmp_path / "archive").rglob("*.parquet")
    assert pq.read_table(path)["key"].to_pylist() == [b"17850", b"************1111", None]
