"""Loads a slice's files into staging: all of the manifest, nothing else, once."""

from __future__ import annotations

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


class StagingMismatch(RuntimeError):
    """What was loaded is not what the manifest says."""


class StageSlice(BaseOperator):
    """Loads the slice named by `slice` (PlanSlice's result); returns it with the event hours and the topics that
    it has rows of."""

    template_fields = ("slice",)

    def __init__(self, *, slice: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slice = slice

    def execute(self, context: Context) -> dict[str, Any]:
        from include.beam.plan import Manifest, Plan
        from madhatter import ledger, warehouse

        began = time.monotonic()
        slice_id = self.slice["slice_id"]
        manifest = Manifest.read(settings().store, slice_id)
        manifest.check_covers(Plan.read(self.slice["plan_uri"]))
        with warehouse.session(context) as session:
            with session.transaction():
                stage(session, settings().store, manifest)
                ledger.set_state(session, slice_id, "staged")
            ledger.record_seconds(session, slice_id, "transform", manifest.seconds)
            ledger.record_seconds(session, slice_id, "stage", time.monotonic() - began)
        files = [file for result in manifest.results for file in result.files]
        rows = sum(file.rows for file in files)
        self.log.info("slice %s: %s rows of %s files in %s hours", slice_id, rows, len(files), len(manifest.hours()))
        return {**self.slice, "hours": manifest.hours(), "topics": manifest.topics()}


def stage(warehouse: Warehouse, store: str, manifest: Manifest) -> None:
    """Replaces the slice's staged rows and its counts in the ledger. Call it in a transaction.

    Raises StagingMismatch when a file is missing from the load or has other rows than the manifest says."""
    from include.beam.plan import slice_folder
    from include.contracts.contract import models

    tables = [*(model.table.name for model in models()), "dead_letter"]
    for table in tables:
        warehouse.run(f"delete from staging.{table} where slice_id = :slice_id", slice_id=manifest.slice_id)
        files = manifest.files(table)
        for first in range(0, len(files), MAX_FILES):
            _copy(warehouse, slice_folder(store, manifest.slice_id), table, files[first : first + MAX_FILES])
    warehouse.run_file("ops/slice_hour.sql", slice_id=manifest.slice_id, hours=_json(manifest.hours()))
    warehouse.run(
        "update ops.slice set hours_touched = :hours where slice_id = :slice_id",
        hours=len(manifest.hours()),
        slice_id=manifest.slice_id,
    )
    _count_partitions(warehouse, manifest)


def _copy(warehouse: Warehouse, folder: str, table: str, files: list[File]) -> None:
    """Names come from the manifest, which the pipeline wrote from topic names and offsets; anything else is refused."""
    for file in files:
        if not _SAFE_PATH.fullmatch(file.path):
            raise ValueError(f"{file.path!r} cannot be a staged file's path: letters, digits and ._/- are allowed")
    if "'" in folder or "\\" in folder:
        raise ValueError(f"MADHATTER_STORE leads to {folder}: choose a place without quotes and backslashes")
    names = ", ".join(f"'{file.path}'" for file in files)
    loaded = warehouse.rows(
        f"copy into staging.{table} from '{folder}/' files = ({names}) file_format = (type = parquet) "
        "match_by_column_name = case_insensitive force = true on_error = abort_statement"
    )
    rows = {row["file"].removeprefix(f"{folder}/").removeprefix("/"): row["rows_loaded"] for row in loaded}
    found = {path[path.index(f"{table}/") :]: count for path, count in rows.items()}
    expected = {file.path: file.rows for file in files}
    if found != expected:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[:5]
        raise StagingMismatch(f"staging.{table}: the manifest and the load differ in {wrong} (file, rows)")


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


def _json(values: list[str]) -> str:
    from madhatter.warehouse import json_list

    return json_list(values)
