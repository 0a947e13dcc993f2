"""Card numbers are masked wherever someone may have put one, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.beam import cards
from include.beam.parse import Parser
from include.beam.source import Records
from include.references import Reference
from tests.bad_events import GOOD

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


def test_number_in_place_of_a_cards_hash_is_masked() -> None:
    payment = {"payment_no": 1, "method": "card", "outcome": "accepted", "amount": 1, "card_hash": "4111111111111111"}
    value = json.dumps(GOOD | {"payments": [payment]}).encode()
    parsed = Parser("sales.orders", {"country": COUNTRY}).parse(Records([0], [1795431186000], [None], [value]))
    assert parsed.tables["payment"]["card_hash"].to_pylist() == ["************1111"]
    assert parsed.masked == {0}
