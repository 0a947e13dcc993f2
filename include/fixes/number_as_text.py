"""A sender wrote numbers as text, "quantity": "6": what is a number in the contract becomes one."""

from __future__ import annotations

from typing import Any

import msgspec

from include.contracts.contract import generated, topics

TOPICS = tuple(topics())
REASON = r"^Expected `(int|float|decimal)[^`]*`, got `str`"


def fix(topic: str, value: bytes) -> bytes | None:
    """The message with those texts as numbers; None when one of them is none, or more is wrong with it."""
    try:
        event: Any = msgspec.json.decode(value, type=generated(topic).Event, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return msgspec.json.encode(event)
