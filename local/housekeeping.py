"""`python -m local.housekeeping`: what Airflow itself never removes, its metadata and its logs, older than
MADHATTER_KEEP_AIRFLOW_DAYS. supervisord runs it once a day; a deployment has its own way (docs/how-to/retention.md).

No DAG can do it: tasks have no access to Airflow's database.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from local.instance import ROOT

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# The operators' own modules, which Airflow finds by itself.
sys.path.append(str(ROOT / "plugins"))

# What `airflow db clean` may take. Not `dag`, by the time of its last parsing: on a machine that slept for long every
# DAG is old, and with its row its pause, its schedule and its assets would go. Not `trigger`: a task goes with it.
TABLES = ("asset_event", "dag_run", "dag_version", "import_error", "job", "log", "revoked_token", "task_reschedule")
BATCH = 1_000  # rows a transaction: SQLite has one writer, and the scheduler waits for it


def clean_metadata(before: datetime) -> dict[str, int]:
    """Removes rows that are older; returns how many per table that lost some. The newest run of each DAG stays: the
    scheduler goes on from it."""
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.utils.db_cleanup import run_cleanup
    from airflow.utils.session import create_session
    from pendulum import instance
    from sqlalchemy import func, select

    def counts(session: Session) -> dict[str, int]:
        tables = Base.metadata.sorted_tables
        return {one.name: session.scalar(select(func.count()).select_from(one)) or 0 for one in tables}

    import_all_models()
    with create_session() as session:
        found = counts(session)
    run_cleanup(
        clean_before_timestamp=instance(before),
        table_names=list(TABLES),
        skip_archive=True,
        confirm=False,
        batch_size=BATCH,
        error_on_cleanup_failure=True,
    )
    with create_session() as session:
        _clean_partitions(session, before)
        session.commit()
        left = counts(session)
    return {name: found[name] - left[name] for name in found if found[name] > left[name]}


def _clean_partitions(session: Session, before: datetime) -> None:
    """What `airflow db clean` does not know. A partition of which some hours were announced and others never come waits
    for ever, and the scheduler looks at the 500 oldest only: enough of these, and no day is rolled up any more. The
    sweep of platform_health does not need them: it compares the ledger with the days done."""
    from airflow.models.asset import AssetPartitionDagRun, PartitionedAssetKeyLog
    from airflow.models.callback import Callback
    from airflow.models.deadline import Deadline
    from sqlalchemy import delete, select

    session.execute(
        delete(AssetPartitionDagRun).where(
            AssetPartitionDagRun.created_dag_run_id.is_(None), AssetPartitionDagRun.updated_at < before
        )
    )
    session.execute(
        delete(PartitionedAssetKeyLog).where(
            PartitionedAssetKeyLog.created_at < before,
            PartitionedAssetKeyLog.asset_partition_dag_run_id.not_in(select(AssetPartitionDagRun.id)),
        )
    )
    session.execute(
        delete(Callback).where(Callback.created_at < before, Callback.id.not_in(select(Deadline.callback_id)))
    )


def clean_logs(folder: Path, before: datetime) -> tuple[int, int]:
    """Removes log files that nothing has written to since, and the folders that this leaves empty; returns how many
    files and bytes."""
    count = size = 0
    emptied: set[Path] = set()
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        if path.is_dir() and not path.is_symlink():
            if path in emptied and not any(path.iterdir()):
                path.rmdir()
                emptied.add(path.parent)
            continue
        found = path.lstat()
        if found.st_mtime < before.timestamp():
            path.unlink()
            emptied.add(path.parent)
            count, size = count + 1, size + found.st_size
    return count, size


def main() -> None:
    """Prints what was removed."""
    from airflow.configuration import conf

    from madhatter.settings import settings

    kept = settings().keep_airflow
    before = datetime.now(UTC) - kept
    rows = clean_metadata(before)
    files, size = clean_logs(Path(conf.get("logging", "base_log_folder")), before)
    words = ", ".join(f"{count} of {name}" for name, count in rows.items()) or "no row"
    print(f"older than {kept.days} days, removed: {words}; {files} log files, {size} bytes", flush=True)


if __name__ == "__main__":
    main()
