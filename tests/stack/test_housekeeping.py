"""What Airflow never removes by itself, on a database that its own migrations made."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local import services
from local.instance import ROOT, Instance

NOW = datetime.now(UTC)
OLD, YOUNG = NOW - timedelta(days=31), NOW - timedelta(days=29)
# A value for each column that must not be null; keys and times are given by the tests.
FILLER: dict[str, Any] = {"INTEGER": 0, "BOOLEAN": 0, "FLOAT": 0.0, "JSON": "{}", "BLOB": b""}


class Metadata:
    """The tables of an instance's Airflow."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.file = instance.airflow_home / "airflow.db"

    def add(self, table: str, **values: Any) -> None:
        """A row with these values and something in every other column that needs one."""
        with closing(sqlite3.connect(self.file)) as database:
            for _, name, kind, is_required, default, key in database.execute(f"pragma table_info('{table}')"):
                if is_required and default is None and name not in values and not (key and kind == "INTEGER"):
                    values[name] = FILLER.get(kind, "x")
            given = {k: v.isoformat(" ") if isinstance(v, datetime) else v for k, v in values.items()}
            names = ", ".join(f'"{name}"' for name in given)
            marks = ", ".join("?" * len(given))
            database.execute(f'insert into "{table}" ({names}) values ({marks})', list(given.values()))
            database.commit()

    def run(self, number: int, dag_id: str, began: datetime, state: str = "success", kind: str = "scheduled") -> None:
        """A run with one task instance, one XCom, and the asset event by which a partition was asked for."""
        run_id = f"run-{number}"
        self.add(
            "dag_run",
            **{"id": number, "dag_id": dag_id, "run_id": run_id, "state": state, "run_type": kind},
            **{"start_date": began, "run_after": began},
        )
        place = {"dag_id": dag_id, "run_id": run_id, "task_id": "plan"}
        version = f"{dag_id:x<32}"
        self.add("task_instance", id=f"{number:032}", start_date=began, state=state, dag_version_id=version, **place)
        self.add("rendered_task_instance_fields", **place)
        self.add("xcom", dag_run_id=number, key="slice", timestamp=began, **place)
        self.add("asset_event", id=number, asset_id=1, timestamp=began)
        self.add("dagrun_asset_event", dag_run_id=number, event_id=number)
        self.partition(number, "2026-11-23", began, created_dag_run_id=number)
        self.add("log", dttm=began, event="success", **place)
        self.add("job", latest_heartbeat=began)

    def partition(self, number: int, key: str, at: datetime, **values: Any) -> None:
        """What waits for a run, or has waited, with the event that it knows of."""
        times = {"created_at": at, "updated_at": at}
        self.add("asset_partition_dag_run", id=number, target_dag_id="daily", partition_key=key, **times, **values)
        self.add("partitioned_asset_key_log", asset_event_id=number, asset_partition_dag_run_id=number, created_at=at)

    def ids(self, table: str, column: str = "id") -> list[Any]:
        with closing(sqlite3.connect(self.file)) as database:
            return [row[0] for row in database.execute(f'select "{column}" from "{table}" order by 1')]

    def clean(self) -> str:
        """What housekeeping says that it removed, on its last line."""
        command = [str(self.instance.platform_python), "-m", "local.housekeeping"]
        done = subprocess.run(
            command, env=self.instance.environment(), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Metadata, str]:
    """Old and young rows and logs, cleaned once; and what housekeeping said."""
    instance = Instance(tmp_path_factory.mktemp("home"), 40_000)
    instance.airflow_home.mkdir()
    command = [str(instance.platform_python), "-m", "airflow", "db", "migrate"]
    subprocess.run(command, env=instance.environment(), cwd=ROOT, capture_output=True, check=True)
    metadata = Metadata(instance)
    for dag_id in ("hourly", "daily"):
        metadata.add("dag", dag_id=dag_id, last_parsed_time=OLD, partition_mapper_info="{}")
        metadata.add("dag_version", id=f"{dag_id:x<32}", dag_id=dag_id, version_number=1, created_at=OLD)
    metadata.run(1, "hourly", OLD)
    metadata.run(2, "hourly", OLD, state="failed", kind="manual")
    metadata.run(3, "hourly", YOUNG)
    metadata.run(4, "daily", OLD)  # the newest of its DAG
    metadata.partition(5, "2026-10-01", OLD)
    metadata.partition(6, "2026-10-25", YOUNG)
    for name, when in (("old", OLD), ("young", YOUNG)):
        log = instance.airflow_home / "logs" / f"run_id={name}" / "task_id=plan" / "attempt=1.log"
        log.parent.mkdir(parents=True)
        log.write_text("it ran")
        os.utime(log, (when.timestamp(), when.timestamp()))
    return metadata, metadata.clean()


def test_old_runs_go_with_all_that_is_theirs_but_for_the_newest_of_each_dag(cleaned: tuple[Metadata, str]) -> None:
    metadata, _ = cleaned
    assert metadata.ids("dag_run") == [3, 4]
    assert metadata.ids("xcom", "run_id") == ["run-3"]
    assert metadata.ids("task_instance", "run_id") == metadata.ids("rendered_task_instance_fields", "run_id")
    assert {"run-1", "run-2"}.isdisjoint(metadata.ids("task_instance", "run_id"))
    assert metadata.ids("asset_event") == [3]
    assert metadata.ids("dagrun_asset_event", "event_id") == [3]
    assert set(metadata.ids("log", "run_id")) <= {"run-3", None}
    assert len(metadata.ids("job")) == 1


def test_partition_whose_hours_never_all_came_does_not_wait_for_ever(cleaned: tuple[Metadata, str]) -> None:
    metadata, _ = cleaned
    assert metadata.ids("asset_partition_dag_run") == [3, 4, 6]
    assert metadata.ids("partitioned_asset_key_log", "asset_partition_dag_run_id") == [3, 4, 6]


def test_dags_that_were_not_parsed_for_long_stay_with_their_versions(cleaned: tuple[Metadata, str]) -> None:
    """A laptop that slept for a month comes back with every DAG that old."""
    metadata, _ = cleaned
    assert metadata.ids("dag", "dag_id") == ["daily", "hourly"]
    assert metadata.ids("dag_version", "dag_id") == ["daily", "hourly"]


def test_old_logs_go_with_their_folders(cleaned: tuple[Metadata, str]) -> None:
    metadata, said = cleaned
    assert [path.name for path in (metadata.instance.airflow_home / "logs").glob("run_id=*")] == ["run_id=young"]
    assert said.endswith("1 log files, 6 bytes")


def test_housekeeping_says_how_many_rows_of_each_table_went(cleaned: tuple[Metadata, str]) -> None:
    _, said = cleaned
    for words in ("2 of dag_run", "3 of asset_event", "3 of partitioned_asset_key_log", "3 of job"):
        assert words in said


def test_no_table_of_what_was_removed_is_left_behind(cleaned: tuple[Metadata, str]) -> None:
    metadata, _ = cleaned
    with closing(sqlite3.connect(metadata.file)) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    assert [name for name in tables if name.startswith("_airflow")] == []


def test_second_run_removes_nothing(cleaned: tuple[Metadata, str]) -> None:
    metadata, _ = cleaned
    assert metadata.clean() == "older than 30 days, removed: no row; 0 log files, 0 bytes"


def test_housekeeping_waits_in_a_shell_and_is_stopped_with_the_platform(tmp_path: Path) -> None:
    instance = Instance(tmp_path, 40_000)
    shell, flag, loop, *_ = services.commands(instance)[services.HOUSEKEEPING]
    assert (shell, flag) == ("/bin/sh", "-c")
    assert subprocess.run([shell, "-n", "-c", loop], check=False).returncode == 0
    assert services.HOUSEKEEPING in services.all_of(instance)
