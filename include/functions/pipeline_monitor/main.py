"""Watches the live half, and judges signals about the platform.

    python -m functions_framework --target pipeline_monitor --source include/functions/pipeline_monitor/main.py

Pushed to from `signals.platform`; an empty POST, of a scheduler, looks at everything (checks.py). What is wrong has one
alert, which ends by itself once it is well again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from include import alerts
from include.alerts import Alert
from include.functions import lines, pushed, raising
from include.functions.pipeline_monitor import checks
from include.functions.pipeline_monitor.checks import Trouble
from include.functions.pushed import Message, Refused
from include.functions.warehouse import Row, Session, warehouse

NAME = "pipeline_monitor"
WAREHOUSE = warehouse(NAME)
DROPS = {"traffic_drop": "Visitors", "sales_drop": "Sales"}
# Trouble -> alerts of whose causes nobody can know meanwhile whether they go on.
HIDDEN = {"warehouse_failing": ("live_stalled", "live_lag", "live_not_final"), "pubsub_failing": ("dead_letters",)}
OPEN = """
select alert_id, kind, subject, severity, title, action from ops.alert where source = %(source)s and state <> 'resolved'
"""
log = lines.logger(NAME)


class Drop(Struct, frozen=True):
    """Of a signal traffic_drop or sales_drop."""

    counted: str
    window_min: int
    count: int
    expected: float
    share: float


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    signal = raising.signal_of(message, fields)
    if signal.kind not in DROPS:
        raise Refused(f"a signal {signal.kind} is not for {NAME}", 422)
    drop = raising.features_of(signal, Drop)
    alert = raising.of_signal(
        signal,
        NAME,
        kind=signal.kind,
        severity="critical",
        subject=signal.subject,
        occasion=signal.event_id,
        title=f"{DROPS[signal.kind]} have dropped to {drop.share:.0%}",
        reasons=[
            f"{drop.count} {drop.counted} in {drop.window_min} minutes, where {drop.expected:g} were expected.",
            "The shop, a payment processor or the way of events to Kafka may be down.",
        ],
        action="open_incident",
        details=signal.features,
    )
    raising.send(alert)
    fields["alerts"] = [alert.alert_id]


def tick(fields: dict[str, Any]) -> None:
    """Raises Passing when Pub/Sub takes no alert."""
    began, known = datetime.now(UTC), _known()
    found = list(_troubles(known))
    raised = [_alert(trouble) for trouble in found]
    fields["trouble"] = sorted(f"{trouble.kind} {trouble.subject}" for trouble in found)
    # Two troubles of one part, such as that it fails and that it does not answer, end together.
    wrong = {trouble.subject for trouble in found}
    kept = {*DROPS, *(kind for trouble in found for kind in HIDDEN.get(trouble.kind, ()))}
    ended = [_ended(row, began) for row in known.values() if row["subject"] not in wrong and row["kind"] not in kept]
    for alert in [*(alert for alert in raised if alert.alert_id not in known), *ended]:
        raising.send(alert)
    fields["ended"] = [alert.alert_id for alert in ended]


def _troubles(known: dict[str, Row]) -> Iterator[Trouble]:
    told = {row["subject"] for row in known.values() if row["kind"] == "dead_letters"}
    for check in (checks.job, lambda: checks.lag(WAREHOUSE), checks.functions, lambda: checks.letters(told)):
        yield from check()


def _known() -> dict[str, Row]:
    """The open alerts of this function, by id; none while the warehouse does not answer: then all are raised again,
    which changes nothing, and none is ended."""

    def ask(session: Session) -> list[Row]:
        return session.rows(OPEN, source=NAME)

    try:
        return {row["alert_id"]: row for row in WAREHOUSE.transaction(ask)}
    except Exception as error:
        log.warning("the open alerts are not known: %s", error)
        return {}


def _alert(trouble: Trouble) -> Alert:
    """One subject has one alert of a kind, which is opened again when it comes back after its end."""
    return Alert(
        alert_id=alerts.alert_id(trouble.kind, trouble.subject, ""),
        source=NAME,
        kind=trouble.kind,
        severity=trouble.severity,
        subject=trouble.subject,
        title=trouble.title[:256],
        reasons=trouble.reasons,
        action="open_incident" if trouble.severity == "critical" else "none",
        state="open",
        raised_ts=datetime.now(UTC),
        details=trouble.details,
    )


def _ended(row: Row, began: datetime) -> Alert:
    """began: when it was looked for. What has failed since is newer than this end, which then ends nothing."""
    return Alert(
        alert_id=row["alert_id"],
        source=NAME,
        kind=row["kind"],
        severity=row["severity"],
        subject=row["subject"],
        title=row["title"],
        reasons=["It is well again."],
        action=row["action"],
        state="resolved",
        raised_ts=began,
    )


pipeline_monitor = pushed.function(NAME, take, tick=tick)
