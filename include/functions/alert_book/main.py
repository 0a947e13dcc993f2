"""The book of alerts: each stands in ops.alert once, and people are told of it once.

    python -m functions_framework --target alert_book --source include/functions/alert_book/main.py

Pushed to from `alerts`. Booked first, then told: an alert that people are told of is in the table, and one that they
could not be told of comes again. include/alerts.yaml says who is told.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import snowflake.connector  # noqa: F401  # before the first alert, which would wait for it

from include import alerts
from include.alerts import Alert
from include.functions import lines, pushed
from include.functions.alert_book import book, notifiers, policy
from include.functions.pushed import Message, Passing
from include.functions.warehouse import Session, warehouse

NAME = "alert_book"
POLICY, NOTIFIERS, WAREHOUSE = policy.read(), notifiers.known(), warehouse(NAME)
LONGEST_S = max((rule.within_s for rule in POLICY.quiet), default=0)
log = lines.logger(NAME)


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    alert = message.decode(alerts.decode, "alert")
    fields |= {"alert_id": alert.alert_id, "kind": alert.kind, "trace_id": alert.trace_id}
    change, raised_ts, to = WAREHOUSE.transaction(partial(_book, alert))
    fields["change"] = change
    if raised_ts is None:
        return
    fields["told"] = list(to)
    failures = [failure for name in to if (failure := _tell(alert, raised_ts, name))]
    if failures:
        raise Passing("; ".join(failures))
    WAREHOUSE.transaction(lambda session: book.note_all(session, alert))


def _book(alert: Alert, session: Session) -> tuple[book.Change, datetime | None, list[policy.Notifier]]:
    """What changed, when the alert was raised, and who is still to be told of it."""
    now = datetime.now(UTC)
    change, raised_ts = book.book(session, alert)
    if raised_ts is None:
        return change, None, []
    before = set() if change in ("new", "reopened") else book.told(session, alert.alert_id, raised_ts)
    recent = book.recent(session, alert.kind, LONGEST_S, now)

    def recently(notifier: str, within_s: int) -> int:
        since = book.naive(now) - timedelta(seconds=within_s)
        return sum(name == notifier and at > since for name, at in recent)

    to = [name for name in POLICY.told(alert, now, recently) if name in NOTIFIERS and name not in before]
    return change, raised_ts, to


def _tell(alert: Alert, raised_ts: datetime, name: str) -> str:
    """Returns why people could not be told, or nothing."""
    try:
        NOTIFIERS[name](alert)
    except OSError as error:
        log.error("%s does not tell of %s: %s", name, alert.alert_id, error)
        return f"{name}: {error}"
    WAREHOUSE.transaction(lambda session: book.note(session, alert, raised_ts, name))
    return ""


alert_book = pushed.function(NAME, take)
