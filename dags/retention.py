"""Retention: once a day, keeps the ledger beside the archive and removes what has served its time.

Reads   the settings MADHATTER_KEEP_... (docs/settings.md); the ledger `ops.slice`: only committed slices count.
Writes  <store>/ledger/<time>, from which `make drill` rebuilds; the topics' bounds; removes staged rows, files of
        loads, audit pages, the archive's oldest files, dead letters' payloads, metrics, live minutes, alerts
        that are over, offers; says in `ops.purge` what it removed.

On failure  clear the task, or leave it: the next day's run removes what this one left. What grows and is not removed
            here is in docs/how-to/retention.md.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable

from madhatter.ledger_export import ExportLedger
from madhatter.policy import DEFAULT_ARGS, page
from madhatter.retention import AlignTopics, Purge

with DAG(
    "retention",
    **page(__doc__),
    schedule=CronTriggerTimetable("30 4 * * *", timezone="UTC"),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    max_active_tasks=1,  # an hour that is due at the same time finds workers
    default_args=DEFAULT_ARGS,
    tags=["platform", "day"],
):
    ExportLedger(task_id="ledger")
    AlignTopics(task_id="topics")
    Purge(task_id="staging", purge="staging")
    Purge(task_id="loads", purge="loads")
    Purge(task_id="archive", purge="archive")
    Purge(task_id="dead_letters", purge="dead_letters")
    Purge(task_id="metrics", purge="metrics")
    Purge(task_id="live", purge="live")
    Purge(task_id="alerts", purge="alerts")
