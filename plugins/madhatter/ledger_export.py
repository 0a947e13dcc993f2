"""The ledger beside the archive: with both, and the migrations, an empty warehouse becomes what the lost one was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator, Context

from madhatter.settings import settings

if TYPE_CHECKING:
    from madhatter.warehouse import Warehouse

# What no replay brings back: which offsets are whose, what people decided, what must not be visible, what customers
# were offered.
TABLES = (
    *("slice", "slice_partition", "slice_hour", "erased", "forced", "day", "history", "backfill", "fix"),
    *("alert", "held_order", "reorder_draft", "incident", "offer"),
)
COMPLETE = "complete.json"
NAME = "%Y%m%dt%H%M%S"


class NoExport(LookupError):
    """There is no whole export of a ledger: where it was looked for."""


class ExportLedger(BaseOperator):
    """Writes the ledger to <store>/ledger/<time>/ and removes exports older than KEEP, but for the newest. Returns its
    URI."""

    keep = timedelta(days=7)

    def execute(self, context: Context) -> str:
        from include import storage
        from madhatter import warehouse

        store, now = settings().store, datetime.now(UTC)
        storage.check_reachable(store)
        with warehouse.session(context) as session, session.transaction():
            uri = export(session, store, now)
        old = [name for name in _names(store) if datetime.strptime(name, NAME).replace(tzinfo=UTC) < now - self.keep]
        root = folder(store)
        storage.remove_below(root, [f"{name}/{file}" for name in old for file in storage.names(f"{root}/{name}")])
        self.log.info("the ledger is at %s; %s older exports removed", uri, len(old))
        return uri


def folder(store: str) -> str:
    """Where the exports are."""
    from include import storage

    return storage.join(store, "ledger")


def export(warehouse: Warehouse, store: str, now: datetime) -> str:
    """Writes the ledger's tables as Parquet; returns the export's URI. Call it in a transaction, so that they fit each
    other. An export without its last file, which tells the rows of each, does not count."""
    from include import storage

    uri = storage.join(folder(store), now.astimezone(UTC).strftime(NAME))
    rows = {}
    for table in TABLES:
        found = warehouse.table(f"select * from ops.{table}")
        storage.write_table(storage.join(uri, f"{table}.parquet"), found)
        rows[table] = found.num_rows
    storage.write_json(storage.join(uri, COMPLETE), rows)
    return uri


def newest(store: str) -> str:
    """The URI of the newest whole export. Raises NoExport."""
    from include import storage

    for name in reversed(_names(store)):
        uri = storage.join(folder(store), name)
        if storage.exists(storage.join(uri, COMPLETE)):
            return uri
    raise NoExport(f"{folder(store)} has no export of the ledger: the DAG retention writes one a day")


def restore(warehouse: Warehouse, uri: str) -> dict[str, int]:
    """Fills the ledger's tables, which must be empty, from an export; returns the rows of each. Raises ValueError when
    a table is not empty or a file has not the rows it had."""
    from include import storage

    expected: dict[str, int] = storage.read_json(storage.join(uri, COMPLETE))
    with warehouse.transaction():
        for table, rows in expected.items():
            (known,) = warehouse.rows(f"select count(*) as n from ops.{table}")
            if known["n"]:
                raise ValueError(
                    f"ops.{table} has {known['n']} rows: restore into an empty, migrated warehouse, "
                    "to which no function writes yet"
                )
            if rows:
                warehouse.run(
                    f"copy into ops.{table} from '{uri}/' files = ('{table}.parquet') file_format = (type = parquet) "
                    "match_by_column_name = case_insensitive force = true on_error = abort_statement"
                )
            (found,) = warehouse.rows(f"select count(*) as n from ops.{table}")
            if found["n"] != rows:
                raise ValueError(f"{uri}/{table}.parquet gave {found['n']} rows, it was exported with {rows}")
    return expected


def _names(store: str) -> list[str]:
    from include import storage

    return sorted({file.path.partition("/")[0] for file in storage.files(folder(store)) if "/" in file.path})
