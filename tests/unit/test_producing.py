"""The settings and keys that every sender of events shares."""

from __future__ import annotations

import json

import msgspec
import pytest

from include import producing
from include.acceptance import refusals
from include.contracts.contract import contract, generated, topics


def test_message_counts_as_sent_when_all_replicas_have_it_once() -> None:
    made = producing.settings({"bootstrap.servers": "kafka:9092"}, {"linger.ms": 50})
    assert (made["acks"], made["enable.idempotence"], made["linger.ms"]) == ("all", True, 50)
    assert made["bootstrap.servers"] == "kafka:9092"


@pytest.mark.parametrize("topic", topics())
def test_key_is_made_of_fields_that_the_contract_has(topic: str) -> None:
    fields = {field.name for field in msgspec.structs.fields(generated(topic).Event)}
    assert set(contract(topic).key) <= fields


def test_key_of_an_order_is_the_customer_or_for_guests_the_order() -> None:
    key = producing.key_of("sales.orders")
    orders = [{"order_id": "536365", "customer_id": customer} for customer in ("17850", None, "")]
    assert [key(json.dumps(order).encode()) for order in orders] == [b"17850", b"536365", b"536365"]


def test_unknown_topic_has_no_key() -> None:
    with pytest.raises(LookupError, match=r"no contract for topic 'sales\.order'"):
        producing.key_of("sales.order")


@pytest.mark.parametrize("topic", topics())
def test_every_topic_says_what_is_wrong_with_an_event_before_it_is_sent(topic: str) -> None:
    assert refusals(topic, [b"{}", b"x"], 0) == {
        0: "Object missing required field `event_id`",
        1: "not JSON: JSON is malformed: invalid character (byte 0)",
    }
