"""How a function raises an alert, of a signal or of its own accord."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from include import alerts
from include.alerts import Action, Alert, Severity
from include.functions.pushed import Message, Passing, Refused
from include.pubsub.publisher import NotPublished, publish
from include.signals import Signal, decode

T = TypeVar("T")


def signal_of(message: Message, fields: dict[str, Any]) -> Signal:
    """The signal that a message brings; the log line shall say which. Raises Refused."""
    signal = message.decode(decode, "signal")
    fields |= {"trace_id": signal.trace_id, "signal_id": signal.signal_id, "kind": signal.kind}
    return signal


def features_of(signal: Signal, shape: type[T]) -> T:
    """What the signal's kind says. Raises Refused."""
    try:
        return msgspec.convert(signal.features, shape)
    except msgspec.ValidationError as error:
        raise Refused(f"a signal {signal.kind} whose features cannot be read: {error}") from None


def of_signal(
    signal: Signal,
    source: str,
    *,
    kind: str,
    severity: Severity,
    subject: str,
    occasion: str,
    title: str,
    reasons: list[str],
    action: Action,
    details: dict[str, Any],
) -> Alert:
    """An open alert with the signal's trace and times."""
    return Alert(
        alert_id=alerts.alert_id(kind, subject, occasion),
        source=source,
        kind=kind,
        severity=severity,
        subject=subject,
        title=title[:256],
        reasons=reasons,
        action=action,
        state="open",
        raised_ts=datetime.now(UTC),
        details=details,
        signal_id=signal.signal_id,
        trace_id=signal.trace_id,
        event_ts=signal.event_ts,
        arrival_ts=signal.arrival_ts,
        detected_ts=signal.detected_ts,
    )


def send(alert: Alert) -> None:
    """Raises Passing when Pub/Sub does not take it."""
    attributes = {"kind": alert.kind, "severity": alert.severity}
    if alert.trace_id:
        attributes["trace_id"] = alert.trace_id
    try:
        publish(alerts.TOPIC, alerts.encode(alert), attributes)
    except NotPublished as error:
        raise Passing(str(error)) from error
