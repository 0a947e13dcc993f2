"""Why a message does not count, in words: rejected as no event of its contract, or a dead letter of the job itself."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from include.beam import cards


class DeadLetter(Struct):
    """A message on which the job's own code fails: told, so that it can be looked up in the log. No payload."""

    topic: str
    partition: int
    offset: int
    reason: str


class Rejected(Exception):
    """A message that does not count; its words are few, so that they can be counted by."""


def reason(value: bytes, error: Exception) -> str:
    """Why a message is rejected, in words without its content, so that like ones can be counted together."""
    if isinstance(error, Rejected):
        return str(error)
    if not value:
        return "empty message"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deep"
    if not isinstance(error, msgspec.ValidationError):
        return "not JSON"
    text = re.sub(r"\[\d+\]", "[]", str(error)).replace(" - at `$.", " at `")
    return re.sub(r"(value|field) ('.*'|`.*?`)(?= at |$)", r"\1", text, flags=re.DOTALL)[:160]


def told(error: Exception) -> str:
    """An exception in words short enough for a notice, without card numbers."""
    return cards.mask_text(f"{type(error).__name__}: {error}"[:300])
