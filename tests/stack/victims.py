"""What a test kills, and the locks by which it waits for the right moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from snowflake.connector.errors import ProgrammingError

from local import processes
from local.snowflake.client import connect
from madhatter.warehouse import Warehouse
from tests.platform import Platform


def pipelines(platform: Platform, load_id: str) -> list[psutil.Process]:
    """The processes that transform a load now."""
    return [process for process, command in _commands(platform) if "include.beam" in command and load_id in command]


def task_processes(platform: Platform, run_id: str, task_id: str) -> list[psutil.Process]:
    """The processes in which a task of a backfill runs now; not the executor's workers, which watch them."""
    tasks = platform.api.tasks("retail_backfill", run_id)
    titles = {f"airflow worker -- {task['id']}" for task in tasks if task["task_id"] == task_id}
    return [process for process, command in _commands(platform) if command in titles]


def scheduler(platform: Platform) -> list[psutil.Process]:
    """The scheduler with its workers and their tasks."""
    return processes.of_service(platform.instance.home, "airflow-scheduler")


def kill(victims: list[psutil.Process]) -> None:
    """kill -9 of those that still run."""
    assert victims
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()


@contextmanager
def locked(platform: Platform, table: str, timeout_s: int = 60) -> Iterator[None]:
    """Somebody else has changed the table and not committed. timeout_s: how long to wait for those who have. Raises
    ProgrammingError."""
    session = Warehouse(connect(platform.instance.port("warehouse")))
    try:
        session.run(f"alter session set lock_timeout = {timeout_s}")
        session.run("begin")
        session.run(f"delete from {table}")
        yield
        session.run("rollback")
    finally:
        session.close()


def is_locked(platform: Platform, table: str) -> bool:
    """Whether somebody has changed the table and not committed."""
    try:
        with locked(platform, table, timeout_s=1):
            return False
    except ProgrammingError:
        return True


def _commands(platform: Platform) -> Iterator[tuple[psutil.Process, str]]:
    """The processes of a platform and their command lines."""
    for process in processes.of_service(platform.instance.home):
        with suppress(psutil.Error):
            yield process, " ".join(process.cmdline()).strip()
