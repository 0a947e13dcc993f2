"""Alerts that Airflow raises: of its own failures, one policy over every DAG, published to the topic `alerts`.

A task's failure is told by `alert_failure`, the callback in policy.DEFAULT_ARGS, with its reason: it runs in the
worker, or in the DAG processor when the worker was killed whole. When the task's process alone is killed, Airflow calls
none: then `alert_run_failure`, the callback of the run, tells it from the DAG processor. A listener would run in the
scheduler's own loop, where nothing may wait for Pub/Sub.

What is not told, because Pub/Sub or the DAG processor was away, is in the log, and platform_health finds it again
(madhatter.watch): it compares what is wrong with the open alerts, and resolves those whose cause is over.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from madhatter.policy import CRITICAL_DAGS

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.alerts import Alert

log = logging.getLogger(__name__)

SOURCE = "airflow"
Kind = Literal["task_failed", "slice_held", "deadline_missed", "queue_long", "live_is_off"]
_ON_FAILURE = re.compile(r"^(?:\*\*)?On failure(?:\*\*)?\s+(.+?)(?:\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)
_INDEX = re.compile(r"_\d+$")
_MOST = 1000  # characters of a reason


def make(kind: Kind, subject: str, title: str, reasons: list[str], is_critical: bool, **details: str) -> Alert:
    """An open alert. One subject has one alert of a kind, which is opened again when it comes back after its end. A
    critical one opens an incident. details: such as dag, task, run, log (a link) and runbook."""
    from include import alerts

    return alerts.Alert(
        alert_id=alerts.alert_id(kind, subject, ""),
        source=SOURCE,
        kind=kind,
        severity="critical" if is_critical else "warning",
        subject=subject[:256],
        title=title[:256],
        reasons=[reason[:_MOST] for reason in reasons],
        action="open_incident" if is_critical else "none",
        state="open",
        raised_ts=datetime.now(UTC),
        details={name: value for name, value in details.items() if value},
    )


def task_failed(dag_id: str, task_id: str, run_id: str, reason: str, log_link: str, runbook: str) -> Alert:
    """The alert of a task that failed and is not tried again. Instances of a mapped task have one in common."""
    return make(
        "task_failed",
        f"dag:{dag_id}/{task_id}",
        f"{dag_id}: {task_id} has failed",
        [reason],
        dag_id in CRITICAL_DAGS,
        dag=dag_id,
        task=task_id,
        run=run_id,
        log=log_link,
        runbook=runbook,
    )


def slice_held(slice_id: str, reason: str, log_link: str = "") -> Alert:
    """The alert of a slice that waits for somebody's decision."""
    return make(
        "slice_held",
        f"slice:{slice_id}",
        f"{slice_id} is held: its rows break a rule",
        [reason],
        False,
        log=log_link,
        runbook="docs/runbook.md, Slice held: mend the cause and clear the run from `plan`, or trigger force_publish.",
    )


def live_is_off(hour: datetime, reasons: list[str], log_link: str) -> Alert:
    """The alert of an hour whose minutes were shown wrong, or not at all, until it was published."""
    return make(
        "live_is_off",
        f"hour:{hour:%Y-%m-%dT%H}",
        f"what live showed of {hour:%Y-%m-%d %H}h was not what core has",
        reasons,
        False,
        log=log_link,
        runbook="docs/how-to/live-tables.md, how live is checked",
    )


def of_failure(context: Context) -> Alert:
    """The alert of a task's failure, from the context of its callback."""
    from madhatter.audit import SliceHeld

    ti, error = context["ti"], context.get("exception")
    if isinstance(error, SliceHeld):
        return slice_held(error.slice_id, str(error), ti.log_url)
    reason = f"{type(error).__name__}: {error}" if error else "its log ends without a reason: it was ended from outside"
    runbook = on_failure(context["dag"].doc_md or "")
    return task_failed(ti.dag_id, ti.task_id, ti.run_id, reason, ti.log_url, runbook)


def alert_failure(context: Context) -> None:
    """Raises the alert of a task that has failed for good. Called by Airflow."""
    publish(of_failure(context))


def alert_run_failure(context: Context) -> None:
    """Raises the alert of the task that made a run fail, which as a rule is told already. Called by Airflow."""
    ti = context.get("ti")
    # Whether an audit failed or its slice is held, only its own callback knows, and the ledger.
    if ti is not None and ti.task_id.split(".")[-1] != "audit":
        publish(of_failure(context))


def publish(alert: Alert) -> bool:
    """Publishes an alert. One that Pub/Sub does not take is logged, whole; False then."""
    from include import alerts
    from include.pubsub.publisher import NotPublished
    from include.pubsub.publisher import publish as to_topic

    body = alerts.encode(alert)
    try:
        to_topic(alerts.TOPIC, body, {"kind": alert.kind, "severity": alert.severity})
    except NotPublished as error:
        log.error("this alert is not told now, platform_health looks again: %s (%s)", body.decode(), error)
        return False
    log.info("told: %s (%s)", alert.title, alert.state)
    return True


def on_failure(text: str) -> str:
    """What a DAG's docstring, or the page made of it, says under `On failure`, in one line; empty without it."""
    found = _ON_FAILURE.search(text)
    return " ".join(found[1].split()) if found else ""


def unmapped(task_id: str) -> str:
    """A task's id without the number that Airflow's lists of states give to each instance of a mapped one."""
    return _INDEX.sub("", task_id)
