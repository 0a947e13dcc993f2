"""Judges signals of fraud: a score with reasons, and from the threshold on an alert that holds the order.

    python -m functions_framework --target fraud_detection --source include/functions/fraud_detection/main.py

Pushed to from `signals.fraud`. One alert an order, however many signals there are about it: its id follows from the
order alone. docs/fraud.md has what the score is worth.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from include.alerts import Alert
from include.functions import pushed, raising
from include.functions.fraud_detection import score
from include.functions.fraud_detection.score import Features, Verdict
from include.functions.pushed import Message
from include.signals import Signal

NAME = "fraud_detection"
WEIGHTS = score.weights()
PLATFORM = "platform"


class Declined(Struct, frozen=True):
    """What a signal about the payments of all customers says."""

    window_min: int
    payers: int
    payers_declined: int
    share: float
    usual_share: float


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    signal = raising.signal_of(message, fields)
    if signal.subject == PLATFORM:
        raised = [_of_platform(signal)]
    else:
        features = raising.features_of(signal, Features)
        verdict = score.judge(signal.kind, features)
        fields["score"] = verdict.score
        is_fraud = verdict.score >= WEIGHTS.threshold
        raised = [_of_order(signal, features, verdict, each) for each in verdict.order_ids] if is_fraud else []
    for alert in raised:
        raising.send(alert)
    fields["alerts"] = [alert.alert_id for alert in raised]


def _of_order(signal: Signal, features: Features, verdict: Verdict, order_id: str) -> Alert:
    reasons = verdict.reasons
    if order_id != features.order_id:
        reasons = [f"Of the same customer as order {features.order_id}, of which this is known:", *reasons]
    return raising.of_signal(
        signal,
        NAME,
        kind="fraud",
        severity="critical" if verdict.score >= WEIGHTS.critical else "warning",
        subject=f"order:{order_id}",
        occasion="",
        title=f"Order {order_id} looks like fraud ({verdict.score:.0%})",
        reasons=reasons,
        action="hold_order",
        details={
            "order_ids": [order_id],
            "customer_id": features.customer_id,
            "amount": features.amount if order_id == features.order_id else None,
            "score": verdict.score,
            "signal_kind": signal.kind,
            "signal_subject": signal.subject,
        },
    )


def _of_platform(signal: Signal) -> Alert:
    found = raising.features_of(signal, Declined)
    return raising.of_signal(
        signal,
        NAME,
        kind="failed_payments",
        severity="critical",
        subject=PLATFORM,
        occasion=signal.event_id,
        title=f"Payments of {found.share:.0%} of all customers are declined",
        reasons=[
            f"{found.payers_declined} of {found.payers} who paid within {found.window_min} minutes; usual are "
            f"{found.usual_share:.0%}.",
            "The payment processor may be down, or stolen cards are being tried out.",
        ],
        action="open_incident",
        details=signal.features,
    )


fraud_detection = pushed.function(NAME, take)
