"""Copies a load's files into staging: all of the manifest, nothing else, once."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from madhatter.settings import settings

if TYPE_CHECKING:
    from include.beam.plan import File, Manifest
    from madhatter.warehouse import Warehouse

MAX_FILES = 1000  # Snowflake's limit for COPY INTO ... FILES
_SAFE_PATH = re.compile(r"[A-Za-z0-9._/-]+")


class LoadDamaged(RuntimeError):
    """What lies in the load's folder is not what its job was to write: what and where. A retry finds the same."""


class StageLoad(BaseOperator):
    """Stages a `load` (a plan's result); returns it with the event hours of each slice and the topics of its rows.

    Damaged files fail the task without a retry; a warehouse or store that does not answer is asked again."""

    template_fields = ("load",)

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.load = load

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowFailException

        from madhatter import ledger, warehouse

        began = time.monotonic()
        load_id, store = self.load["load_id"], settings().store
        try:
            manifest = read_manifest(store, load_id, self.load["plan_uri"])
            with warehouse.session(context) as session:
                with session.transaction():
                    stage(session, store, manifest)
                    ledger.set_state(session, load_id, "staged")
                ledger.record_seconds(session, load_id, "transform", manifest.seconds)
                ledger.record_seconds(session, load_id, "stage", time.monotonic() - began)
        except LoadDamaged as error:
            raise AirflowFailException(
                f"load {load_id} cannot be staged, nothing of it was copied: {error}. Clear this run from `plan`: "
                "it keeps its offsets and its files are written again (docs/runbook.md, a load's files are damaged or "
                "gone)"
            ) from error
        files = [file for result in manifest.results for file in result.files]
        rows = sum(file.rows for file in files)
        hours = manifest.hours()
        count = len({hour for of_slice in hours.values() for hour in of_slice})
        self.log.info("load %s: %s rows of %s files in %s hours", load_id, rows, len(files), count)
        return {**self.load, "hours": hours, "topics": manifest.topics()}


def read_manifest(store: str, load_id: str, plan_uri: str) -> Manifest:
    """The load's manifest, which covers its plan. Raises LoadDamaged, or OSError when the store is out of reach."""
    from include import storage
    from include.beam.plan import Manifest, Plan

    uri = Manifest.uri(store, load_id)
    try:
        manifest = Manifest.read(store, load_id)
        plan = Plan.read(plan_uri)
    except FileNotFoundError as error:
        storage.check_reachable(store)
        raise LoadDamaged(f"{error}, although its job has ended") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LoadDamaged(f"{uri} or {plan_uri} is broken ({error!r})") from error
    try:
        manifest.check_covers(plan)
    except ValueError as error:
        raise LoadDamaged(f"{uri} does not fit {plan_uri}: {error}") from error
    return manifest


def stage(warehouse: Warehouse, store: str, manifest: Manifest) -> None:
    """Replaces the load's staged rows and its slices' counts in the ledger. Call it in a transaction.

    Raises LoadDamaged when a file is missing, broken or another load's, has other rows than the manifest says, or when
    a slice that was committed before had another number of events then."""
    from include.beam.plan import Manifest, load_folder
    from include.contracts.contract import models

    tables = [*(model.table.name for model in models()), "dead_letter"]
    if unknown := {file.table for result in manifest.results for file in result.files} - set(tables):
        uri = Manifest.uri(store, manifest.load_id)
        raise LoadDamaged(
            f"{uri} has rows for {sorted(unknown)}, which no contract has: the pipeline's template is of another "
            "version than these DAGs. Deploy both from one"
        )
    for table in tables:
        warehouse.run(f"delete from staging.{table} where load_id = :load_id", load_id=manifest.load_id)
        files = manifest.files(table)
        for first in range(0, len(files), MAX_FILES):
            _copy(warehouse, load_folder(store, manifest.load_id), table, files[first : first + MAX_FILES])
        if files:
            _check_chunks(warehouse, load_folder(store, manifest.load_id), table, manifest)
    _count(warehouse, manifest)


def _copy(warehouse: Warehouse, folder: str, table: str, files: list[File]) -> None:
    """Names come from the manifest, which the pipeline wrote from topic names and offsets; anything else is refused."""
    from snowflake.connector.errors import ProgrammingError

    for file in files:
        if not _SAFE_PATH.fullmatch(file.path):
            raise LoadDamaged(f"{file.path!r} cannot be a staged file's path: letters, digits and ._/- are allowed")
    if "'" in folder or "\\" in folder:
        raise ValueError(f"MADHATTER_STORE leads to {folder}: choose a place without quotes and backslashes")
    names = ", ".join(f"'{file.path}'" for file in files)
    copy = (
        f"copy into staging.{table} from '{folder}/' files = ({names}) file_format = (type = parquet) "
        "match_by_column_name = case_insensitive force = true on_error = abort_statement"
    )
    try:
        loaded = warehouse.rows(copy)
    except ProgrammingError as error:
        # Class 22 is a data exception; a lock's timeout, a cancelled statement and the like may pass.
        if not (error.sqlstate or "").startswith("22"):
            raise
        words = " ".join((error.raw_msg or "").partition("\n\n")[0].split())
        raise LoadDamaged(f"staging.{table} cannot be loaded from {folder}: {words}") from error
    rows = {row["file"].removeprefix(f"{folder}/").removeprefix("/"): row["rows_loaded"] for row in loaded}
    found = {path[path.index(f"{table}/") :]: count for path, count in rows.items()}
    expected = {file.path: file.rows for file in files}
    if found != expected:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[:5]
        raise LoadDamaged(f"staging.{table}: the manifest and the load of {folder} differ in {wrong} (file, rows)")


def _check_chunks(warehouse: Warehouse, folder: str, table: str, manifest: Manifest) -> None:
    """A file of another load or chunk is copied as well as the right one would be, under the other's id or offsets."""
    from include.beam.plan import Chunk, place

    chunks = [
        [*place(result.chunk), file.rows] for result in manifest.results for file in result.files if file.table == table
    ]
    wrong = warehouse.rows(
        f"""
        with chunk as (
            select value[0]::varchar as slice_id, value[1]::varchar as topic, value[2]::int as partition,
                value[3]::int as first, value[4]::int as past_last, value[5]::int as expected
            from table(flatten(input => parse_json(:chunks)))
        ),
        loaded as (
            select chunk.*, count(staged.offset) as found
            from chunk left join staging.{table} as staged
                on staged.load_id = :load_id and staged.slice_id = chunk.slice_id and staged.topic = chunk.topic
                and staged.partition = chunk.partition and staged.offset >= chunk.first
                and staged.offset < chunk.past_last
            group by all
        )
        select * from loaded where found <> expected order by found - expected limit 1
        """,
        chunks=json.dumps(chunks),
        load_id=manifest.load_id,
    )
    for row in wrong:
        chunk = Chunk(row["slice_id"], row["topic"], row["partition"], row["first"], row["past_last"])
        raise LoadDamaged(
            f"staging.{table}: {folder}/{chunk.path(table)} gave {row['found']} of its chunk's {row['expected']} rows: "
            "it is another load's or chunk's"
        )


def _count(warehouse: Warehouse, manifest: Manifest) -> None:
    """Notes in the ledger how many hours each slice of the load touches, and what its partitions delivered."""
    totals: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for result in manifest.results:
        total = totals[result.chunk.slice_id, result.chunk.topic, result.chunk.partition]
        for at, value in enumerate((result.delivered, result.holes, result.dead_letters)):
            total[at] += value
    hours = manifest.hours()
    counts = json.dumps([[*place, *total] for place, total in totals.items()])
    for row in warehouse.rows_of_file("ops/changed_counts.sql", counts=counts):
        raise LoadDamaged(
            f"slice {row['slice_id']} now has {row['delivered']} events in {row['topic']}[{row['partition']}], and had "
            f"{row['delivered_before']} when it was committed: its source has lost or changed records since"
        )
    slices = {slice_id for slice_id, _, _ in totals} or {manifest.load_id}
    touched = json.dumps([[slice_id, len(hours.get(slice_id, ()))] for slice_id in sorted(slices)])
    warehouse.run_file("ops/slice_counts.sql", hours=touched, counts=counts)
