"""The watch over alerts, by the clock: what an alert asks for and nobody did is done, what is wrong and not told is
told, what is over is resolved.

It needs nothing but the ledger and what Airflow knows of its runs, so that whatever hint was lost is found again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, Context

from madhatter import alerts
from madhatter.policy import ENDLESS_DAGS
from madhatter.settings import settings

if TYPE_CHECKING:
    from include.alerts import Alert
    from madhatter.warehouse import Row, Warehouse

LATE_HOUR = timedelta(minutes=15)  # after a window has closed
LATE_DAY = timedelta(minutes=45)  # after a day is due: platform_health itself rolls it up after 15
LONG_QUEUE = timedelta(minutes=15)
FAILED, WAITING = "failed_tasks", "waiting"  # in ops.metric, of a DAG


class WatchAlerts(BaseOperator):
    """Responds to what was left, raises what is wrong and not told, resolves what is over. Returns how many of each."""

    def execute(self, context: Context) -> dict[str, int]:
        from madhatter import response, runs, warehouse

        own = context["dag"]
        files = {file.stem: file for file in sorted(Path(own.fileloc).parent.glob("*.py"))}
        with warehouse.session(context) as session:
            # Before all that may fail.
            done = response.respond(session, response.name_of(context))
            now = datetime.now(UTC)
            known = open_alerts(session)
            failed = _failed_tasks(session, files, known)
            # Its own tasks wait for a worker at the same time.
            measure(session, WAITING, {name: float(runs.count_waiting(name)) for name in files if name != own.dag_id})
            awake = is_awake(session, now)
            wrong = {
                alert.alert_id: alert
                for alert in (
                    *failed[0],
                    *(late(session, files, now) if awake else ()),
                    *held(session),
                    *long_queues(session, now),
                    *live_off(session, now),
                )
            }
            new = [alert for alert in wrong.values() if alert.alert_id not in known]
            over = [
                ended(row, now)
                for alert_id, row in known.items()
                if alert_id not in wrong and (awake or row["kind"] != "deadline_missed")
            ]
            # One that Pub/Sub does not take keeps it waiting: not for the others too.
            if all(alerts.publish(alert) for alert in (*new, *over)):
                # Else the next watch looks at them again.
                measure(session, FAILED, failed[1])
        return {"raised": len(new), "resolved": len(over), "responded": len(done)}


def open_alerts(warehouse: Warehouse) -> dict[str, Row]:
    """Airflow's alerts that are not over, by id."""
    rows = warehouse.rows(
        "select * from ops.alert where source = :source and state <> 'resolved'", source=alerts.SOURCE
    )
    return {row["alert_id"]: row for row in rows}


def ended(row: Row, now: datetime) -> Alert:
    """The end of an open alert. now: when its cause was looked for; what has failed since is newer, and goes on."""
    from include.alerts import Alert

    return Alert(
        alert_id=row["alert_id"],
        source=alerts.SOURCE,
        kind=row["kind"],
        severity=row["severity"],
        subject=row["subject"],
        title=row["title"],
        reasons=["Its cause is over."],
        action="none",
        state="resolved",
        raised_ts=now,
    )


def _failed_tasks(
    warehouse: Warehouse, files: dict[str, Path], known: dict[str, Row]
) -> tuple[list[Alert], dict[str, float]]:
    """Alerts of the tasks that failed when they ended last, and failed instances by DAG. A DAG is looked at closer when
    their number has changed or an alert of it is open: its runs are many."""
    from madhatter import runs

    before = last(warehouse, FAILED)
    with_alert = {json.loads(row["details"] or "{}").get("dag") for row in known.values()}
    are_held = bool(next(held(warehouse), None))
    found, counts = [], {}
    for dag_id, file in files.items():
        counts[dag_id] = float(runs.count_failed(dag_id))
        if dag_id not in with_alert and counts[dag_id] == before.get(dag_id, 0):
            continue
        for task_id, end in runs.last_ends(dag_id, dag_id in ENDLESS_DAGS).items():
            # A held slice has an alert of its own.
            if end.state == "failed" and not (are_held and task_id.split(".")[-1] == "audit"):
                found.append(
                    alerts.task_failed(
                        dag_id,
                        task_id,
                        end.run_id,
                        "found by platform_health: the reason is in the task's log",
                        task_link(dag_id, end.run_id, task_id),
                        runbook(file),
                    )
                )
    return found, counts


def is_awake(warehouse: Warehouse, now: datetime) -> bool:
    """Whether the watch was there a quarter of an hour ago: after an outage, or a laptop's sleep, all is late."""
    rows = warehouse.rows(
        "select 1 as looked from ops.metric where metric_name = :metric and measured_ts between :first and :last",
        metric=WAITING,
        first=(now - 2 * LATE_HOUR).replace(tzinfo=None),
        last=(now - LATE_HOUR + timedelta(minutes=1)).replace(tzinfo=None),
    )
    return bool(rows)


def late(warehouse: Warehouse, files: dict[str, Path], now: datetime) -> Iterator[Alert]:
    """The window, and the days, that should be visible and are not."""
    from madhatter import days

    config = settings()
    naive = {
        "due": (now - config.tail - LATE_HOUR).replace(tzinfo=None),
        "first": config.start.astimezone(UTC).replace(tzinfo=None),
    }
    for row in warehouse.rows_of_file("ops/late_window.sql", length_s=int(config.window.total_seconds()), **naive):
        start = row["window_start"]
        yield alerts.make(
            "deadline_missed",
            f"window:{start:%Y-%m-%dT%H:%M:%S}",
            f"retail_hourly: the window from {start:%Y-%m-%d %H:%M} (UTC) is late",
            [f"it is not committed {LATE_HOUR} after it closed; later windows wait for it"],
            True,
            dag="retail_hourly",
            runbook=runbook(files.get("retail_hourly")),
        )
    for one in days.due(warehouse, now, LATE_DAY):
        yield alerts.make(
            "deadline_missed",
            f"day:{one.day}",
            f"retail_daily: {one.day} is not rolled up",
            [f"it is due since {one.since:%Y-%m-%d %H:%M} (UTC)"],
            True,
            dag="retail_daily",
            runbook=runbook(files.get("retail_daily")),
        )


def held(warehouse: Warehouse) -> Iterator[Alert]:
    """The slices that wait for somebody's decision."""
    for row in warehouse.rows("select slice_id, audit_result from ops.slice where state = 'held' order by slice_id"):
        yield alerts.slice_held(row["slice_id"], row["audit_result"] or "the audit's page has the rules")


def long_queues(warehouse: Warehouse, now: datetime) -> Iterator[Alert]:
    """The DAGs of which something has waited for its turn at each look for so long."""
    for row in warehouse.rows(
        "select measured_of, min(measured) as least, max(measured) as most, min(measured_ts) as since_ts "
        "from ops.metric where metric_name = :metric and measured_ts > :since group by all order by measured_of",
        metric=WAITING,
        since=(now - LONG_QUEUE - timedelta(minutes=2)).replace(tzinfo=None),
    ):
        # A look a minute late or early still counts.
        if row["least"] > 0 and row["since_ts"].replace(tzinfo=UTC) <= now - LONG_QUEUE + timedelta(minutes=1):
            yield alerts.make(
                "queue_long",
                f"dag:{row['measured_of']}",
                f"{row['measured_of']}: something waits for its turn",
                [f"runs or tasks wait for over {LONG_QUEUE}, at most {row['most']:.0f} at once"],
                False,
                dag=row["measured_of"],
                runbook="docs/runbook.md, Long queue: see what runs instead, or give Airflow more workers.",
            )


def live_off(warehouse: Warehouse, now: datetime) -> Iterator[Alert]:
    """The hours that live showed wrong, for a day after they were compared, or until somebody resolves their alert."""
    from madhatter import live

    rows = warehouse.rows("select alert_id from ops.alert where kind = 'live_is_off' and state = 'resolved'")
    seen = {row["alert_id"] for row in rows}
    yield from (alert for alert in live.told(live.off(warehouse, now)) if alert.alert_id not in seen)


def measure(warehouse: Warehouse, metric: str, values: dict[str, float]) -> None:
    """Notes a number by DAG in ops.metric."""
    from madhatter import health

    health.add(warehouse, metric, values)


def last(warehouse: Warehouse, metric: str) -> dict[str, float]:
    """The last of these numbers."""
    rows = warehouse.rows(
        "select measured_of, measured from ops.metric where metric_name = :metric "
        "qualify row_number() over (partition by measured_of order by measured_ts desc) = 1",
        metric=metric,
    )
    return {row["measured_of"]: row["measured"] for row in rows}


def runbook(file: Path | None) -> str:
    """What a DAG file's docstring says under `On failure`; empty where there is none."""
    import ast

    if file is None or not file.exists():
        return ""
    return alerts.on_failure(ast.get_docstring(ast.parse(file.read_text())) or "")


def task_link(dag_id: str, run_id: str, task_id: str) -> str:
    """The page of a task in Airflow's UI."""
    from airflow.sdk.configuration import conf

    base: Any = conf.get("api", "base_url", fallback="http://localhost:8080/")
    return f"{str(base).rstrip('/')}/dags/{dag_id}/runs/{quote(run_id)}/tasks/{task_id}"
