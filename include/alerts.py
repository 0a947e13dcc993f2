"""An alert: what somebody, or Airflow for them, should do something about. What travels through the topic `alerts`.

An alert's id follows from what it is about, so that it can be raised any number of times and stands in ops.alert once.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Severity = Literal["info", "warning", "critical"]
# What `alert_response` does about it; none: people are told, no more.
Action = Literal["none", "hold_order", "draft_reorder", "open_incident"]
TOPIC = "alerts"


class Alert(Struct, frozen=True, forbid_unknown_fields=True):
    """source: who raised it, a function's name or `airflow`. kind: `fraud`, `low_stock`, `task_failed`, ...
    subject: what it is about, as in a signal, or `dag:retail_hourly/audit`. state: `resolved` ends the open alert with
    that id. title: one line for people; reasons: sentences. details: JSON values, such as order_ids, log link, runbook
    line. signal_id, trace_id, event_ts, arrival_ts, detected_ts: the signal's, empty where there was none."""

    alert_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    source: Annotated[str, Meta(min_length=1, max_length=64)]
    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    severity: Severity
    subject: Annotated[str, Meta(min_length=1, max_length=256)]
    title: Annotated[str, Meta(min_length=1, max_length=256)]
    reasons: list[str]
    action: Action
    state: Literal["open", "resolved"]
    raised_ts: Annotated[datetime, Meta(tz=True)]
    details: dict[str, Any] = {}
    signal_id: str | None = None
    trace_id: str | None = None
    event_ts: Annotated[datetime, Meta(tz=True)] | None = None
    arrival_ts: Annotated[datetime, Meta(tz=True)] | None = None
    detected_ts: Annotated[datetime, Meta(tz=True)] | None = None


def alert_id(kind: str, subject: str, occasion: str) -> str:
    """The id of an alert: 32 hex digits. occasion: what tells this time from the next, such as an event's id."""
    return hashlib.sha256(f"{kind}\n{subject}\n{occasion}".encode()).hexdigest()[:32]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Alert).decode
