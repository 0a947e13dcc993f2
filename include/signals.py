"""A signal: what the streaming job has seen in the log that a function should judge. What travels through Pub/Sub.

A signal's content is a function of the log and the snapshot alone, but for `detected_ts`: seen again, after a restart
or by a second job, it has the same id. Who takes one is idempotent by `signal_id`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Kind = Literal[
    "order_velocity",
    "unusual_amount",
    "failed_payments",
    "impossible_travel",
    "early_return",
    "low_stock",
    "cart_left",
    "sensor_out_of_range",
    "sensor_silent",
    "traffic_drop",
    "sales_drop",
]
# The Pub/Sub topic of each kind: who judges it.
TOPICS: dict[str, str] = {
    "order_velocity": "signals.fraud",
    "unusual_amount": "signals.fraud",
    "failed_payments": "signals.fraud",
    "impossible_travel": "signals.fraud",
    "early_return": "signals.fraud",
    "low_stock": "signals.inventory",
    "sensor_out_of_range": "signals.inventory",
    "sensor_silent": "signals.inventory",
    "cart_left": "signals.cart",
    "traffic_drop": "signals.platform",
    "sales_drop": "signals.platform",
}
Text = Annotated[str, Meta(min_length=1, max_length=256)]


class Signal(Struct, frozen=True, forbid_unknown_fields=True):
    """subject: what it is about, `customer:17850`, `card:5f2c...`, `shelf:LEEDS/85123A`, `session:...`,
    `sensor:...`, `platform`. event_id: the event that made it one. event_ts, arrival_ts: that event's, UTC.
    trace_id: 32 hex digits, of the triggering event, the same in every log line up to the alert. features: what was
    seen, JSON values only, by kind (docs/contracts/signals.md)."""

    signal_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    kind: Kind
    subject: Text
    event_id: Text
    event_ts: Annotated[datetime, Meta(tz=True)]
    arrival_ts: Annotated[datetime, Meta(tz=True)]
    detected_ts: Annotated[datetime, Meta(tz=True)]
    trace_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    features: dict[str, Any]


def signal_id(kind: str, subject: str, event_id: str) -> str:
    """The id of a signal: 32 hex digits that follow from what it is about."""
    return _digest(f"{kind}\n{subject}\n{event_id}")


def trace_id(event_id: str) -> str:
    """The trace that an event begins: 32 hex digits, as W3C Trace Context has them."""
    return _digest(f"trace\n{event_id}")


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Signal).decode


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
