"""The task `stage` as Airflow runs it: damage fails it for good, what is out of reach is tried again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.instance import ROOT, Instance
from local.ports import free_ports
from tests.pipeline.chain import TOPIC, Chain, empty_chain, order
from tests.stand_ins import Snowflake

# Stages the slices named on the command line, one after the other, and tells what each task ended with.
STAGE = """
import json, sys
from types import SimpleNamespace
from madhatter.settings import settings
from madhatter.staging import StageLoad
context = {"ti": SimpleNamespace(dag_id="retail_hourly", task_id="stage", run_id="run")}
outcomes = {}
for name in sys.argv[1:]:
    plan = f"{settings().store}/loads/{name}/plan.json"
    try:
        StageLoad(task_id="stage", load={"load_id": name, "plan_uri": plan}).execute(context)
        outcomes[name] = ["", ""]
    except Exception as error:
        outcomes[name] = [type(error).__name__, str(error)]
print("OUTCOMES" + json.dumps(outcomes))
"""
Outcome = tuple[str, str]  # exception's name and text, both empty after success


def run(instance: Instance, store: str, *slices: str) -> dict[str, Outcome]:
    done = subprocess.run(
        [sys.executable, "-c", STAGE, *slices],
        cwd=ROOT,
        env=instance.environment() | {"MADHATTER_STORE": store},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("OUTCOMES", 1)[1])
    return {name: (kind, text) for name, (kind, text) in found.items()}


def _lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:100])


def _forget_a_chunk(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["results"].pop()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _lose_plan(folder: Path) -> None:
    (folder / "plan.json").unlink()


def _header(folder: Path) -> Path:
    return sorted((folder / "order_header").glob("*.parquet"))[0]


def _lose_file(folder: Path) -> None:
    _header(folder).unlink()


def _truncate_file(folder: Path) -> None:
    _header(folder).write_bytes(_header(folder).read_bytes()[:-40])


def _break_a_page(folder: Path) -> None:
    data = bytearray(_header(folder).read_bytes())
    data[4:400] = b"\xff" * 396
    _header(folder).write_bytes(data)


def _foreign_columns(folder: Path) -> None:
    pq.write_table(pa.table({"colour": ["red"]}), _header(folder))


def _other_slices_file(folder: Path) -> None:
    shutil.copyfile(_header(folder.parent / "good"), _header(folder))


def _other_chunks_file(folder: Path) -> None:
    one, other = sorted((folder / "order_header").glob("*.parquet"))
    shutil.copyfile(one, other)


def _change(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest's first chunk."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest["results"][0])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _list_a_file_twice(folder: Path) -> None:
    _change(folder, lambda result: result["files"].append(result["files"][0]))


def _list_a_file_under_another_name(folder: Path) -> None:
    shutil.copyfile(_header(folder), folder / "order_header" / "copy.parquet")
    _change(folder, lambda result: result["files"].append(result["files"][0] | {"path": "order_header/copy.parquet"}))


def _rows_of_no_contract(folder: Path) -> None:
    def add(result: dict[str, Any]) -> None:
        path = result["files"][0]["path"].replace("order_header", "order_hat")
        result["files"].append(result["files"][0] | {"table": "order_hat", "path": path})

    _change(folder, add)


def _put_strangers_beside(folder: Path) -> None:
    """What a job that was killed or a person may leave: nobody has listed it."""
    for name in ("copy.parquet", ".half.parquet.0.part"):
        shutil.copyfile(_header(folder), folder / "order_header" / name)


HARMS: dict[str, tuple[Callable[[Path], None], str]] = {
    "manifest-lost": (_lose_manifest, "manifest.json does not exist, although its job has ended"),
    "manifest-cut": (_cut_manifest, "manifest.json or .*plan.json is broken"),
    "manifest-short": (
        _forget_a_chunk,
        r"does not fit .*plan.json: .*missing chunks \[\('manifest-short', 'sales.orders', 1",
    ),
    "plan-lost": (_lose_plan, "plan.json does not exist"),
    "file-lost": (_lose_file, rf"staging\.order_header cannot be loaded.*{TOPIC}-0-\d+-\d+\.parquet"),
    "file-cut": (_truncate_file, rf"staging\.order_header cannot be loaded.*{TOPIC}-0-\d+-\d+\.parquet"),
    "page-broken": (_break_a_page, rf"staging\.order_header cannot be loaded.*{TOPIC}-0-\d+-\d+\.parquet"),
    "columns-foreign": (_foreign_columns, rf"staging\.order_header cannot be loaded.*{TOPIC}-0-\d+-\d+\.parquet"),
    "file-of-another": (_other_slices_file, rf"order_header/{TOPIC}-0-\d+-\d+\.parquet gave 0 of its chunk's 1 rows"),
    "file-of-a-chunk": (_other_chunks_file, rf"order_header/{TOPIC}-1-\d+-\d+\.parquet gave 0 of its chunk's 1 rows"),
    "file-twice": (_list_a_file_twice, rf"lists foreign or doubled files \['order_header/{TOPIC}-0"),
    "file-copied": (_list_a_file_under_another_name, r"lists foreign or doubled files \['order_header/copy\.parquet'"),
    "table-unknown": (_rows_of_no_contract, r"rows for \['order_hat'\], which no contract has"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("staging")


@pytest.fixture(scope="module")
def chain(snowflake: Snowflake, folder: Path) -> Chain:
    """A good slice, and one for each harm, with two events each and their jobs done."""
    chain = empty_chain(snowflake.open(), folder)
    for name in ["good", *HARMS]:
        for partition in (0, 1):
            chain.send(partition, order(f"{name}{partition}"))
        chain.plan(name)
        chain.transform(name)
    return chain


@pytest.fixture(scope="module")
def instance(snowflake: Snowflake) -> Instance:
    return Instance(snowflake.folder / "instance", snowflake.base)


@pytest.fixture(scope="module")
def outcomes(chain: Chain, instance: Instance) -> dict[str, Outcome]:
    """What each harmed slice's task ended with."""
    for name, (harm, _) in HARMS.items():
        harm(chain.folder / "loads" / name)
    _put_strangers_beside(chain.folder / "loads" / "good")
    return run(instance, chain.store, "good", *HARMS)


@pytest.mark.parametrize("name", HARMS)
def test_damage_fails_the_task_without_a_retry_and_names_what_where_and_the_cure(
    outcomes: dict[str, Outcome], chain: Chain, name: str
) -> None:
    kind, text = outcomes[name]
    assert kind == "AirflowFailException", text
    (found,) = chain.warehouse.rows("select count(*) as n from staging.order_header where slice_id = :name", name=name)
    assert found["n"] == 0
    for words in (f"load {name} cannot be staged", str(chain.folder / "loads" / name), "Clear this run from `plan`"):
        assert words in text
    assert re.search(HARMS[name][1], text), text


def test_slice_without_harm_is_staged_among_the_harmed(outcomes: dict[str, Outcome], chain: Chain) -> None:
    assert outcomes["good"] == ("", "")
    assert chain.state("good") == "staged"
    (found,) = chain.warehouse.rows("select count(*) as n from staging.order_header where slice_id = 'good'")
    assert found["n"] == 2


def test_harmed_slice_is_staged_once_its_files_are_written_again(
    outcomes: dict[str, Outcome], chain: Chain, instance: Instance
) -> None:
    assert outcomes["file-cut"][0]
    chain.transform("file-cut")
    assert run(instance, chain.store, "file-cut") == {"file-cut": ("", "")}


def test_store_out_of_reach_is_tried_again(instance: Instance, tmp_path: Path) -> None:
    kind, text = run(instance, (tmp_path / "not-mounted").as_uri(), "good")["good"]
    assert kind == "OSError"
    assert "cannot be reached" in text


def test_warehouse_out_of_reach_is_tried_again(chain: Chain, snowflake: Snowflake) -> None:
    (port,) = free_ports(1)
    kind, _ = run(Instance(snowflake.folder / "instance", port - 84), chain.store, "good")["good"]
    assert kind == "WarehouseDown"
