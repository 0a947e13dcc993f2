"""A sender wrote a byte order mark (FF FE) in front of a text: it goes."""

from __future__ import annotations

from include.contracts.contract import topics

TOPICS = tuple(topics())
REASON = r"^not UTF-8: byte \d+ is 0xff"


def fix(topic: str, value: bytes) -> bytes | None:  # noqa: ARG001 - the same for all topics
    """The message without its marks; None when it has none."""
    without = value.replace(b"\xff\xfe", b"")
    return without if without != value else None
