"""The restore drill: an empty warehouse made anew from the archive, the migrations and the ledger, and compared.

Next to the running warehouse, over the same store: an export of the ledger is added to it, nothing else is changed.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from local import health, table
from local.instance import ROOT, Instance
from local.migrate import migrate
from local.ports import free_port_base
from local.progress import Say, step
from local.snowflake.client import connect

sys.path.append(str(ROOT / "plugins"))

Hashes = dict[str, tuple[int, int]]  # table -> hash of its content, rows


def drill(instance: Instance) -> int:
    """Prints a table; returns 1 when a table of core or marts differs. Raises RuntimeError or ValueError with what to
    do when the platform is down, the archive lacks something or the export does."""
    from include import storage
    from madhatter import ledger, ledger_export, publish
    from madhatter.warehouse import Warehouse

    logging.getLogger("snowflake.connector").setLevel(logging.WARNING)
    began = time.monotonic()
    if not health.ready(instance, "warehouse"):
        raise RuntimeError(f"the warehouse does not answer on {instance.address('warehouse')}: make up")
    with step("Ledger and hashes of the running warehouse") as say:
        running = Warehouse(connect(instance.port("warehouse")))
        running.run("begin")  # one moment, whatever is published meanwhile; nothing of it is kept
        try:
            ledger.take_lock(running, "publish", "drill")
            uri = ledger_export.export(running, instance.store, datetime.now(UTC))
            # A day that waits for its correction is older than the slices that it is made of.
            publish.compute_days(running, _stale_days(running))
            expected = hashes(running)
        finally:
            running.run("rollback")
            running.close()
        say(uri)
    folder = instance.home / "drill"
    shutil.rmtree(folder, ignore_errors=True)
    other = replace(instance, home=folder, port_base=free_port_base())
    loads: list[dict[str, Any]] = []
    try:
        with _warehouse(other) as fresh:
            rows = ledger_export.restore(fresh, uri)
            with step("Slices from the archive") as say:
                _replay(fresh, instance.store, loads, say)
            with step("Days"):
                _roll_up(fresh)
            found = hashes(fresh)
            (unbalanced,) = fresh.rows("select count_if(not is_balanced) as n from ops.reconciliation")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        root = storage.join(instance.store, "loads")
        for load in loads:
            storage.remove_below(root, [f"{load['load_id']}/{file.path}" for file in _files(instance, load)])
    names = sorted(expected.keys() | found.keys())
    different = [name for name in names if expected.get(name) != found.get(name)]
    lines = [[name, expected.get(name, (0, 0))[1], "DIFFERS" if name in different else "identical"] for name in names]
    print("\n" + table.text(["table", "rows", "rebuilt"], lines))
    print(
        f"{rows['slice']} slices in {len(loads)} loads, {time.monotonic() - began:.0f} s; "
        f"{unbalanced['n']} partitions out of balance, {len(different)} tables differ"
    )
    return 1 if different or unbalanced["n"] else 0


def hashes(warehouse: Any) -> Hashes:
    """Of every table of core and marts."""
    found = {}
    for schema in ("core", "marts"):
        for row in warehouse.rows(f"show tables in schema {schema}"):
            name = f"{schema}.{row['name'].lower()}"
            (content,) = warehouse.rows(f"select hash_agg(*) as h, count(*) as n from {name}")
            found[name] = (content["h"], content["n"])
    return found


@contextmanager
def _warehouse(other: Instance) -> Iterator[Any]:
    """A session on an empty, migrated warehouse of its own."""
    from madhatter.warehouse import Warehouse

    other.home.mkdir(parents=True)
    command = [str(other.warehouse_python), "-m", "local.snowflake"]
    place = ["--port", f"{other.port('warehouse')}", "--data", f"{other.data / 'warehouse'}"]
    with (other.home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *place], cwd=ROOT, env=other.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        with step("Empty warehouse, migrated"):
            deadline = time.monotonic() + 60
            while not health.ready(other, "warehouse"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no second warehouse: {(other.home / 'log').read_text()[-2000:]}")
                time.sleep(0.2)
            migrate(other)
        session = Warehouse(connect(other.port("warehouse")))
        yield session
        session.close()
    finally:
        process.terminate()
        process.wait()


def _replay(warehouse: Any, store: str, loads: list[dict[str, Any]], say: Say) -> None:
    """Adds the loads as they are planned."""
    from include.beam.plan import Manifest
    from madhatter import backfill, publish, staging

    (row,) = warehouse.rows("select max(window_end) as closed from ops.slice where state = 'committed'")
    if row["closed"] is None:
        return
    asked = backfill.Request("replay", backfill.EPOCH, row["closed"].replace(tzinfo=UTC), "archive")
    run_id = f"drill {datetime.now(UTC).isoformat()}"
    loads += backfill.replay(warehouse, store, asked, run_id, "nowhere:9092", 100_000)
    for number, load in enumerate(loads, 1):
        say(f"load {number} of {len(loads)}: {load['offsets']:,} offsets")
        command = [
            sys.executable,
            "-m",
            "include.beam.hourly",
            "--runner=FnApiRunner",
            "--bootstrap_servers=nowhere:9092",
        ]
        done = subprocess.run(
            [*command, "--plan", load["plan_uri"]],
            cwd=ROOT,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the pipeline of {load['load_id']} failed:\n{done.stderr[-3000:]}")
        manifest = Manifest.read(store, load["load_id"])
        with warehouse.transaction():
            staging.stage(warehouse, store, manifest)
        hours = manifest.hours()
        with warehouse.transaction():
            publish.publish(warehouse, load["load_id"], {one: hours.get(one, []) for one in load["slices"]})


def _stale_days(warehouse: Any) -> list[str]:
    """Days that were touched after they were rolled up."""
    rows = warehouse.rows(
        "select distinct done.order_date from ops.day as done "
        "inner join ops.slice_hour on done.order_date = to_date(slice_hour.event_hour) "
        "inner join ops.slice on slice_hour.slice_id = slice.slice_id and slice.state = 'committed' "
        "where slice.published_ts > done.rolled_up_ts"
    )
    return [row["order_date"].isoformat() for row in rows]


def _roll_up(warehouse: Any) -> None:
    from madhatter import publish

    days = [row["order_date"].isoformat() for row in warehouse.rows("select order_date from ops.day")]
    if days:
        publish.roll_up(warehouse, days)


def _files(instance: Instance, load: dict[str, Any]) -> list[Any]:
    from include import storage
    from include.beam.plan import load_folder

    return list(storage.files(load_folder(instance.store, load["load_id"])))
