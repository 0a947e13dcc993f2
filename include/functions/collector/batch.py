"""What a request carries: its events' bytes as they were sent, or why it is no batch."""

from __future__ import annotations

import zlib
from typing import BinaryIO

import msgspec
from msgspec import Raw, Struct

from include.functions.collector.settings import MAX_BODY_BYTES, MAX_EVENTS


class Refused(ValueError):
    """A request that is not taken. status: its HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Batch(Struct, forbid_unknown_fields=True):
    events: list[Raw]


def read(body: BinaryIO, content_type: str, content_encoding: str) -> list[bytes]:
    """The events of a request, byte for byte. Raises Refused."""
    if content_type.split(";")[0].strip().lower() != "application/json":
        raise Refused(415, f"Content-Type is {content_type or 'missing'}: send application/json")
    coding = content_encoding.strip().lower()
    if coding not in ("", "identity", "gzip"):
        raise Refused(415, f"Content-Encoding {content_encoding} is not understood: send gzip, or leave it out")
    raw = body.read(MAX_BODY_BYTES + 1)
    if coding == "gzip":
        raw = _unpack(raw)
    if len(raw) > MAX_BODY_BYTES:
        raise Refused(413, f"the body is over {MAX_BODY_BYTES} bytes (uncompressed): send smaller batches")
    try:
        events = msgspec.json.decode(raw, type=_Batch).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f'the body is not {{"events": [...]}}: {error}') from None
    if len(events) > MAX_EVENTS:
        raise Refused(413, f"{len(events)} events in one request: at most {MAX_EVENTS}")
    if not events:
        raise Refused(400, "no events in the request")
    return [bytes(event) for event in events]


def _unpack(raw: bytes) -> bytes:
    """What gzip holds, cut one byte over the limit: a small body may unpack to gigabytes."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(raw, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise Refused(400, f"the body is not gzip: {error}") from None
    if not unpacker.eof and len(found) <= MAX_BODY_BYTES and len(raw) <= MAX_BODY_BYTES:
        raise Refused(400, "the body is not gzip: it ends too early")
    return found
