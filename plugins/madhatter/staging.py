"""Loads a slice's files into staging: all of the manifest, nothing else, once."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from madhatter.settings import settings

if TYPE_CHECKING:
    from include.beam.plan import File, Manifest
    from madhatter.warehouse import Warehouse

MAX_FILES = 1000  # Snowflake's limit for COPY INTO ... FILES
_SAFE_PATH = re.compile(r"[A-Za-z0-9._/-]+")


class SliceDamaged(RuntimeError):
    """What lies in the slice's folder is not what its job was to write: what and where. A retry finds the same."""


class StageSlice(BaseOperator):
    """Loads the slice named by `slice` (PlanSlice's result); returns it with the event hours and topics of its rows.

    Damaged files fail the task without a retry; a warehouse or store that does not answer is asked again."""

    template_fields = ("slice",)

    def __init__(self, *, slice: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slice = slice

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowFailException

        from madhatter import ledger, warehouse

        began = time.monotonic()
        slice_id, store = self.slice["slice_id"], settings().store
        try:
            manifest = read_manifest(store, slice_id, self.slice["plan_uri"])
            with warehouse.session(context) as session:
                with session.transaction():
                    stage(session, store, manifest)
                    ledger.set_state(session, slice_id, "staged")
                ledger.record_seconds(session, slice_id, "transform", manifest.seconds)
                ledger.record_seconds(session, slice_id, "stage", time.monotonic() - began)
        except SliceDamaged as error:
            raise AirflowFailException(
                f"slice {slice_id} cannot be staged, nothing of it was loaded: {error}. Clear this run from `plan`: "
                "the slice keeps its offsets and its files are written again (docs/runbook.md, a slice's files are "
                "damaged or gone)"
            ) from error
        files = [file for result in manifest.results for file in result.files]
        rows = sum(file.rows for file in files)
        self.log.info("slice %s: %s rows of %s files in %s hours", slice_id, rows, len(files), len(manifest.hours()))
        return {**self.slice, "hours": manifest.hours(), "topics": manifest.topics()}


def read_manifest(store: str, slice_id: str, plan_uri: str) -> Manifest:
    """The slice's manifest, which covers its plan. Raises SliceDamaged, or OSError when the store is out of reach."""
    from include import storage
    from include.beam.plan import Manifest, Plan

    uri = Manifest.uri(store, slice_id)
    try:
        manifest = Manifest.read(store, slice_id)
        plan = Plan.read(plan_uri)
    except FileNotFoundError as error:
        storage.check_reachable(store)
        raise SliceDamaged(f"{error}, although its job has ended") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SliceDamaged(f"{uri} or {plan_uri} is broken ({error!r})") from error
    try:
        manifest.check_covers(plan)
    except ValueError as error:
        raise SliceDamaged(f"{uri} does not fit {plan_uri}: {error}") from error
    return manifest


def stage(warehouse: Warehouse, store: str, manifest: Manifest) -> None:
    """Replaces the slice's staged rows and its counts in the ledger. Call it in a transaction.

    Raises SliceDamaged when a file is missing, broken or another slice's, or has other rows than the manifest says."""
    from include.beam.plan import Manifest, slice_folder
    from include.contracts.contract import models

    tables = [*(model.table.name for model in models()), "dead_letter"]
    if unknown := {file.table for result in manifest.results for file in result.files} - set(tables):
        uri = Manifest.uri(store, manifest.slice_id)
        raise SliceDamaged(
            f"{uri} has rows for {sorted(unknown)}, which no contract has: the pipeline's template is of another "
            "version than these DAGs. Deploy both from one"
        )
    for table in tables:
        warehouse.run(f"delete from staging.{table} where slice_id = :slice_id", slice_id=manifest.slice_id)
        files = manifest.files(table)
        for first in range(0, len(files), MAX_FILES):
            _copy(warehouse, slice_folder(store, manifest.slice_id), table, files[first : first + MAX_FILES])
        if files:
            _check_chunks(warehouse, slice_folder(store, manifest.slice_id), table, manifest)
    warehouse.run(
        "update ops.slice set hours_touched = :hours where slice_id = :slice_id",
        hours=len(manifest.hours()),
        slice_id=manifest.slice_id,
    )
    _count_partitions(warehouse, manifest)


def _copy(warehouse: Warehouse, folder: str, table: str, files: list[File]) -> None:
    """Names come from the manifest, which the pipeline wrote from topic names and offsets; anything else is refused."""
    from snowflake.connector.errors import ProgrammingError

    for file in files:
        if not _SAFE_PATH.fullmatch(file.path):
            raise SliceDamaged(f"{file.path!r} cannot be a staged file's path: letters, digits and ._/- are allowed")
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
        raise SliceDamaged(f"staging.{table} cannot be loaded from {folder}: {words}") from error
    rows = {row["file"].removeprefix(f"{folder}/").removeprefix("/"): row["rows_loaded"] for row in loaded}
    found = {path[path.index(f"{table}/") :]: count for path, count in rows.items()}
    expected = {file.path: file.rows for file in files}
    if found != expected:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[:5]
        raise SliceDamaged(f"staging.{table}: the manifest and the load of {folder} differ in {wrong} (file, rows)")


def _check_chunks(warehouse: Warehouse, folder: str, table: str, manifest: Manifest) -> None:
    """A file of another slice or chunk loads as well as the right one would, under the other's id or offsets."""
    from include.beam.plan import Chunk

    chunks = [
        {**asdict(result.chunk), "rows": file.rows}
        for result in manifest.results
        for file in result.files
        if file.table == table
    ]
    wrong = warehouse.rows(
        f"""
        with chunk as (
            select value:topic::varchar as topic, value:partition::int as partition, value:start::int as first,
                value:end::int as past_last, value:rows::int as expected
            from table(flatten(input => parse_json(:chunks)))
        ),
        loaded as (
            select chunk.*, count(staged.offset) as found
            from chunk left join staging.{table} as staged
                on staged.slice_id = :slice_id and staged.topic = chunk.topic and staged.partition = chunk.partition
                and staged.offset >= chunk.first and staged.offset < chunk.past_last
            group by all
        )
        select * from loaded where found <> expected order by found - expected limit 1
        """,
        chunks=json.dumps(chunks),
        slice_id=manifest.slice_id,
    )
    for row in wrong:
        chunk = Chunk(row["topic"], row["partition"], row["first"], row["past_last"])
        raise SliceDamaged(
            f"staging.{table}: {folder}/{chunk.path(table)} gave {row['found']} of its chunk's {row['expected']} rows: "
            "it is another slice's or chunk's"
        )


def _count_partitions(warehouse: Warehouse, manifest: Manifest) -> None:
    totals: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for result in manifest.results:
        total = totals[result.chunk.topic, result.chunk.partition]
        for at, value in enumerate((result.delivered, result.holes, result.dead_letters)):
            total[at] += value
    warehouse.run(
        "update ops.slice_partition set delivered = 0, holes = 0, dead_letters = 0, "
        "published = coalesce(published, 0), duplicates = coalesce(duplicates, 0), erased = coalesce(erased, 0) "
        "where slice_id = :slice_id",
        slice_id=manifest.slice_id,
    )
    for (topic, partition), (delivered, holes, dead_letters) in totals.items():
        warehouse.run(
            "update ops.slice_partition set delivered = :delivered, holes = :holes, dead_letters = :dead_letters "
            "where slice_id = :slice_id and topic = :topic and partition = :partition",
            slice_id=manifest.slice_id,
            topic=topic,
            partition=partition,
            delivered=delivered,
            holes=holes,
            dead_letters=dead_letters,
        )
