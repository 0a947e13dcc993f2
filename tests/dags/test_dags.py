"""Every DAG file: quick to parse, without a platform to talk to, documented, under the one policy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError

from local.instance import ROOT, inherited
from madhatter import alerts, policy, watch
from madhatter.audit import SliceHeld
from madhatter.settings import settings

FILES = sorted((ROOT / "dags").glob("*.py"))
LIMIT_S = 0.1
# Parses one DAG file as the DAG processor does, with Airflow's SDK loaded before. A connection, a Variable or a socket
# ends it: parsing must not need a running platform.
PARSE = """
import runpy, socket, sys, time
import airflow.sdk
from airflow.sdk import Connection, Variable

def refused(*_, **__):
    raise AssertionError("a DAG file must not reach for connections, Variables or services")

Connection.get = Variable.get = socket.create_connection = socket.socket.connect = refused
before, began = set(sys.modules), time.process_time()
runpy.run_path(sys.argv[1])
print(time.process_time() - began)
print(" ".join({m.split(".")[0] for m in set(sys.modules) - before}))
"""
HEAVY = {"apache_beam", "great_expectations", "pandas", "pyarrow", "numpy", "duckdb", "snowflake", "confluent_kafka"}


def parse(file: Path, home: Path) -> tuple[float, set[str]]:
    """CPU seconds that a fresh interpreter takes for a DAG file, and the packages that it loads."""
    env = inherited() | {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
        "MADHATTER_STORE": "file:///nowhere",
        "MADHATTER_TEMPLATES": "file:///nowhere",
    }
    command = [sys.executable, "-c", PARSE, str(file)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seconds, modules = done.stdout.strip().splitlines()[-2:]
    return float(seconds), set(modules.split())


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    """All DAGs, by id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MADHATTER_STORE", "file:///nowhere")
        patch.setenv("MADHATTER_TEMPLATES", "file:///nowhere")
        bag = DagBag(ROOT / "dags", bundle_name="dags-folder")
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_each_file_is_one_dag_of_its_name(dags: dict[str, DAG]) -> None:
    assert sorted(dags) == [file.stem for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dag_file_is_parsed_within_a_tenth_of_a_second_and_loads_nothing_heavy(file: Path, tmp_path: Path) -> None:
    seconds, packages = parse(file, tmp_path)
    assert packages & HEAVY == set()
    for _ in range(2):  # the best of three, on a machine that does other work
        seconds = seconds if seconds < LIMIT_S else parse(file, tmp_path)[0]
    assert seconds < LIMIT_S


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_dag_says_what_it_reads_and_writes_and_what_to_do_when_it_fails(dags: dict[str, DAG], name: str) -> None:
    page = dags[name].doc_md or ""
    for word in ("Reads", "Writes", "On failure"):
        assert f"\n**{word}** " in page, f"{name}: no paragraph of its page begins with {word}"
    assert page.strip().splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_every_task_has_an_owner_retries_and_a_time_limit(dags: dict[str, DAG], name: str) -> None:
    assert dags[name].tasks
    for task in dags[name].tasks:
        found: Any = task
        assert found.owner == "data-platform", task.task_id
        assert found.retries >= 1, task.task_id
        assert found.max_retry_delay <= timedelta(minutes=1), f"{task.task_id} sleeps on when all is well again"
        assert found.execution_timeout is not None, task.task_id


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_failure_of_every_task_is_told_with_the_runbook_line_of_its_dag(dags: dict[str, DAG], name: str) -> None:
    line = alerts.on_failure(dags[name].doc_md or "")
    assert line == watch.runbook(ROOT / "dags" / f"{name}.py")
    assert line.endswith(".")
    for task in dags[name].tasks:
        found: Any = task
        assert list(found.on_failure_callback) == [policy.alert_failure], task.task_id
    assert dags[name].on_failure_callback == policy.alert_run_failure
    context: Any = {
        "dag": dags[name],
        "ti": SimpleNamespace(dag_id=name, task_id="own", run_id="run", log_url="http://log"),
        "exception": ValueError("offset 17 is gone"),
    }
    alert = alerts.of_failure(context)
    assert (alert.kind, alert.subject) == ("task_failed", f"dag:{name}/own")
    assert alert.reasons == ["ValueError: offset 17 is gone"]
    assert alert.details["runbook"] == line


def test_held_slice_is_told_as_such_and_not_as_a_failed_task(dags: dict[str, DAG]) -> None:
    context: Any = {
        "dag": dags["retail_hourly"],
        "ti": SimpleNamespace(dag_id="retail_hourly", task_id="audit", run_id="run", log_url="http://log"),
        "exception": SliceHeld("hour-20261123t100000", "load is held"),
    }
    alert = alerts.of_failure(context)
    assert (alert.kind, alert.subject) == ("slice_held", "slice:hour-20261123t100000")


def test_stream_is_kept_without_a_pause_unless_it_is_off(
    dags: dict[str, DAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream: Any = dags["retail_stream"]
    assert type(stream.timetable).__name__ == "ContinuousTimetable"
    assert stream.max_consecutive_failed_dag_runs == 1
    assert stream.start_date < datetime.now(UTC), "without it there is no second run"
    monkeypatch.setenv("MADHATTER_STORE", "file:///nowhere")
    monkeypatch.setenv("MADHATTER_STREAM", "off")
    settings.cache_clear()
    shutil.copy(ROOT / "dags" / "retail_stream.py", tmp_path)
    bag = DagBag(tmp_path, bundle_name="dags-folder")
    settings.cache_clear()
    off: Any = bag.dags["retail_stream"]
    assert type(off.timetable).__name__ == "NullTimetable"


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_runs_of_a_dag_do_not_overlap(dags: dict[str, DAG], name: str) -> None:
    assert dags[name].max_active_runs == 1


def test_steps_of_the_hour_follow_each_other(dags: dict[str, DAG]) -> None:
    order = ["hour_closed", "plan", "transform", "stage", "audit", "publish"]
    dag = dags["retail_hourly"]
    for before, after in pairwise(order):
        assert before in dag.get_task(after).upstream_task_ids
    assert dag.get_task("publish").downstream_task_ids == {"announce", "correct"}
    assert dag.get_task("announce").downstream_task_ids == {"check_live"}


def test_steps_of_a_backfills_loads_follow_each_other_one_load_at_a_time(dags: dict[str, DAG]) -> None:
    steps = [f"load.{name}" for name in ("after_live_hours", "transform", "stage", "audit", "publish")]
    dag = dags["retail_backfill"]
    for before, after in pairwise(["plan", *steps, "roll_up"]):
        assert before in dag.get_task(after).upstream_task_ids
    assert {dag.get_task(name).max_active_tis_per_dagrun for name in steps} == {1}


def test_dag_without_its_settings_says_which_one_is_missing(tmp_path: Path) -> None:
    env = inherited() | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
    command = [sys.executable, "-c", PARSE, str(ROOT / "dags" / "retail_hourly.py")]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "MADHATTER_STORE is not set" in done.stderr


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_every_task_refuses_a_configuration_that_its_dag_has_no_parameter_for(dags: dict[str, DAG], name: str) -> None:
    takes = f"it takes {', '.join(sorted(dags[name].params))}" if dags[name].params else "it takes none"
    for task in dags[name].tasks:
        found: Any = task
        context = {"dag": dags[name], "dag_run": SimpleNamespace(conf={"slice": 1, "date": "2026-11-23"})}
        with pytest.raises(AirflowFailException, match=f"{name} has no parameter date, slice; {takes}"):
            found._pre_execute_hook(context)
        for conf in (None, {}, dict.fromkeys(dags[name].params, "given")):
            found._pre_execute_hook({"dag": dags[name], "dag_run": SimpleNamespace(conf=conf)})


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_every_parameter_is_explained_and_has_a_schema(dags: dict[str, DAG], name: str) -> None:
    for key in dags[name].params:
        param = dags[name].params.get_param(key)
        assert param.description, key
        assert param.description.endswith("."), key
        assert param.schema.get("title"), key
        assert param.schema.get("type"), key


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "slice_id"),
        ({"slice_id": "", "reason": "Looked at it."}, "slice_id"),
        ({"slice_id": "hour-2026-11-23", "reason": "Looked at it."}, "slice_id"),
        ({"slice_id": "../hour-20261123t100000", "reason": "Looked at it."}, "slice_id"),
        ({"slice_id": 7, "reason": "Looked at it."}, "slice_id"),
        ({"slice_id": "hour-20261123t100000"}, "reason"),
        ({"slice_id": "hour-20261123t100000", "reason": ""}, "reason"),
        ({"slice_id": "hour-20261123t100000", "reason": "because"}, "reason"),
        ({"slice_id": "hour-20261123t100000", "reason": " " * 20}, "reason"),
    ],
)
def test_form_refuses_a_decision_without_a_slice_or_a_reason(
    dags: dict[str, DAG], given: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(ParamValidationError, match=f"Invalid input for param {wrong}"):
        decided(dags, given)


def test_form_takes_a_decision(dags: dict[str, DAG]) -> None:
    given = {"slice_id": "backfill-0123456789abcdef", "reason": "Looked at it.\nIt is right."}
    assert decided(dags, given) == given


def decided(dags: dict[str, DAG], given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a force_publish that is triggered with these, as Airflow resolves them."""
    params = deepcopy(dags["force_publish"].params)
    params.update(given)
    return dict(params.validate())


@pytest.mark.parametrize(
    ("kind", "last", "after"),
    [("hour", "publish", {"announce", "correct"}), ("backfill", "load.publish", {"roll_up"})],
)
def test_forced_slice_is_told_on_as_its_own_dag_would(
    dags: dict[str, DAG], kind: str, last: str, after: set[str]
) -> None:
    dag = dags["force_publish"]
    branch: Any = dag.get_task("by_kind")
    assert set(branch.python_callable(kind)) == after
    own = dags["retail_hourly" if kind == "hour" else "retail_backfill"]
    assert {(type(dag.get_task(name)), name) for name in after} == {
        (type(own.get_task(name)), name) for name in own.get_task(last).downstream_task_ids
    }
