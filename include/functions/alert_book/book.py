"""ops.alert: an alert stands in it once, however often and in whatever order its messages come."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from include.alerts import Alert
from include.functions.warehouse import Row, Session

Change = Literal["new", "again", "reopened", "resolved", "nothing"]
RANK = {"info": 0, "warning": 1, "critical": 2}
LOCK = "update ops.alert_lock set taken = taken + 1"
# teller_ts: raised_ts of the message that tells people. Who resolves an alert by hand may leave out when.
FIND = """
select
    state, severity, raised_ts, notified_ts, coalesce(worse_ts, raised_ts) as teller_ts,
    coalesce(last_raised_ts, raised_ts) as last_raised_ts,
    coalesce(resolved_ts, last_raised_ts, raised_ts) as resolved_ts
from ops.alert where alert_id = %(alert_id)s
"""
ADD = """
insert into ops.alert (
    alert_id, source, kind, severity, subject, title, reasons, action, state, details, signal_id, trace_id, event_ts,
    arrival_ts, detected_ts, raised_ts, last_raised_ts, booked_ts, resolved_ts, times_raised
) values (
    %(alert_id)s, %(source)s, %(kind)s, %(severity)s, %(subject)s, %(title)s, %(reasons)s, %(action)s, %(state)s,
    %(details)s, %(signal_id)s, %(trace_id)s, %(event_ts)s, %(arrival_ts)s, %(detected_ts)s, %(raised_ts)s,
    %(raised_ts)s, %(now)s, %(resolved_ts)s, 1
)
"""
AGAIN = """
update ops.alert
set times_raised = times_raised + 1, last_raised_ts = greatest(last_raised_ts, %(raised_ts)s)
where alert_id = %(alert_id)s
"""
WORSE = """
update ops.alert
set
    times_raised = times_raised + 1, severity = %(severity)s, title = %(title)s, reasons = %(reasons)s,
    details = %(details)s, last_raised_ts = greatest(last_raised_ts, %(raised_ts)s), worse_ts = %(raised_ts)s,
    notified_ts = null
where alert_id = %(alert_id)s
"""
REOPEN = """
update ops.alert
set
    times_raised = times_raised + 1, state = 'open', severity = %(severity)s, title = %(title)s, reasons = %(reasons)s,
    details = %(details)s, raised_ts = %(raised_ts)s, last_raised_ts = %(raised_ts)s, booked_ts = %(now)s,
    worse_ts = null, acknowledged_ts = null, resolved_ts = null, notified_ts = null, handled_ts = null,
    handled_by = null
where alert_id = %(alert_id)s
"""
RESOLVE = "update ops.alert set state = 'resolved', resolved_ts = %(raised_ts)s where alert_id = %(alert_id)s"
TOLD = "select notifier from ops.alert_notice where alert_id = %(alert_id)s and raised_ts = %(raised_ts)s"
RECENT = """
select notifier, notified_ts from ops.alert_notice where kind = %(kind)s and notified_ts > %(since)s
"""
NOTICE = """
insert into ops.alert_notice (alert_id, raised_ts, notifier, kind, notified_ts)
values (%(alert_id)s, %(raised_ts)s, %(notifier)s, %(kind)s, %(now)s)
"""
NOTIFIED = """
update ops.alert set notified_ts = %(now)s
where alert_id = %(alert_id)s and notified_ts is null and coalesce(worse_ts, raised_ts) = %(raised_ts)s
"""


def change_of(alert: Alert, found: Row | None) -> Change:
    """What an alert changes. found: its row. Of messages in any order the newest one decides, of two as new the end.

    A signal's alert is over once it is resolved: the signal may come again, but what it saw has not happened again.
    """
    if found is None:
        return "new"
    if alert.state == "resolved":
        last = found["resolved_ts"] if found["state"] == "resolved" else found["last_raised_ts"]
        return "nothing" if naive(alert.raised_ts) < last else "resolved"
    if found["state"] != "resolved":
        return "again"
    is_newer = naive(alert.raised_ts) > found["resolved_ts"]
    return "reopened" if is_newer and alert.signal_id is None else "nothing"


def book(session: Session, alert: Alert) -> tuple[Change, datetime | None]:
    """To be called in a transaction. Returns what changed, and when the open alert was raised, if this message is to
    tell people of it: the one that opened it or made it worse, and no other that comes while people are being told."""
    session.run(LOCK)
    found = next(iter(session.rows(FIND, alert_id=alert.alert_id)), None)
    change, values = change_of(alert, found), _values(alert)
    is_worse = change == "again" and found is not None and RANK[alert.severity] > RANK[found["severity"]]
    if change == "new":
        session.run(ADD, **values, resolved_ts=values["raised_ts"] if alert.state == "resolved" else None)
    elif change == "again":
        session.run(WORSE if is_worse else AGAIN, **values)
    elif change == "reopened":
        session.run(REOPEN, **values)
    elif change == "resolved":
        session.run(RESOLVE, **values)
    if alert.state == "resolved" or change == "nothing":
        return change, None
    if change == "again" and found:
        is_teller = not found["notified_ts"] and found["teller_ts"] == values["raised_ts"]
        return change, found["raised_ts"] if is_worse or is_teller else None
    return change, naive(alert.raised_ts)


def told(session: Session, alert_id: str, raised_ts: datetime) -> set[str]:
    """The notifiers that have told people of this alert, raised then."""
    return {row["notifier"] for row in session.rows(TOLD, alert_id=alert_id, raised_ts=raised_ts)}


def recent(session: Session, kind: str, within_s: int, now: datetime) -> list[tuple[str, datetime]]:
    """Who was told when of alerts of a kind, in the last seconds."""
    rows = session.rows(RECENT, kind=kind, since=naive(now) - timedelta(seconds=within_s))
    return [(row["notifier"], row["notified_ts"]) for row in rows]


def note(session: Session, alert: Alert, raised_ts: datetime, notifier: str) -> None:
    """That a notifier has told people."""
    values = {"alert_id": alert.alert_id, "raised_ts": raised_ts, "kind": alert.kind}
    session.run(NOTICE, **values, notifier=notifier, now=naive(datetime.now(UTC)))


def note_all(session: Session, alert: Alert) -> None:
    """That all who are to be told by this message have been, unless the alert has been opened again or become worse."""
    session.run(NOTIFIED, alert_id=alert.alert_id, raised_ts=naive(alert.raised_ts), now=naive(datetime.now(UTC)))


def naive(moment: datetime) -> datetime:
    """UTC without saying so, as the warehouse has it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _values(alert: Alert) -> dict[str, Any]:
    times = ("event_ts", "arrival_ts", "detected_ts", "raised_ts")
    names = ("alert_id", "source", "kind", "severity", "subject", "title", "action", "state", "signal_id", "trace_id")
    return {
        **{name: getattr(alert, name) for name in names},
        **{name: naive(at) if (at := getattr(alert, name)) else None for name in times},
        "reasons": json.dumps(alert.reasons, ensure_ascii=False),
        "details": json.dumps(alert.details, ensure_ascii=False),
        "now": naive(datetime.now(UTC)),
    }
