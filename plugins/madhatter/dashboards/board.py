"""Answers: which dashboards there are, how fresh their data is, and the rows of a dataset under given filters."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from madhatter.dashboards import files
from madhatter.dashboards.cache import Cache
from madhatter.dashboards.filters import Coverage, FilterError, NothingBefore, Selection, select
from madhatter.dashboards.model import ChoiceFilter, Dashboard
from madhatter.dashboards.query import StatementFailed, Table, Warehouse

# How long a publish may stay unseen: many readers cost one look at the ledger in this time.
_LOOK_EVERY_S = 2.0
_KEPT_ANSWERS = 512
_KEPT_FOR_S = 900.0


class NotFound(LookupError):
    """No such dashboard, dataset or file."""


class Source(Protocol):
    """Where rows come from."""

    def ask(self, statement: str, values: list[Any], tag: str) -> Table: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Answer:
    """Rows of a dataset, their window, the version of the data they were read at. note: why there are none."""

    table: Table
    version: str
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    note: str | None = None


class Board:
    """Thread-safe; one for a process."""

    def __init__(self, source: Source | None = None) -> None:
        self._source: Source = source or Warehouse()
        self._shelf: files.Shelf | None = None
        self._coverage: Cache[Coverage] = Cache(size=64, age_s=_LOOK_EVERY_S)
        self._tables: Cache[Table] = Cache(size=_KEPT_ANSWERS, age_s=_KEPT_FOR_S)

    def close(self) -> None:
        """Let go of the warehouse."""
        self._source.close()

    def shelf(self) -> files.Shelf:
        """The dashboards as their files are now."""
        self._shelf = files.load(self._shelf)
        return self._shelf

    def dashboard(self, name: str) -> Dashboard:
        """One dashboard. Raises NotFound."""
        shelf = self.shelf()
        if name not in shelf.dashboards:
            broken = [str(error) for error in shelf.errors if error.file == f"{files.FOLDER}/{name}.yml"]
            unknown = f"There is no dashboard '{name[:60]}'. Known: {', '.join(shelf.dashboards)}."
            raise NotFound(broken[0] if broken else unknown)
        return shelf.dashboards[name]

    def coverage(self, name: str) -> Coverage:
        """What the dashboard's data covers, at most two seconds old. Raises what `answer` raises."""
        dashboard = self.dashboard(name)
        digest = self.shelf().digest
        return self._coverage.get((name, digest), lambda: self._look(name, dashboard, digest))

    def answer(self, name: str, dataset: str, query: Mapping[str, str]) -> Answer:
        """Rows of a dataset. query: filters as text. Raises NotFound, FilterError, WarehouseDown, StatementFailed."""
        dashboard = self.dashboard(name)
        if dataset not in dashboard.datasets:
            known = ", ".join(dashboard.datasets)
            raise NotFound(f"Dashboard '{name}' has no dataset '{dataset[:60]}'. Known: {known}.")
        coverage = self.coverage(name)
        try:
            selection = select(dashboard, query, coverage)
        except NothingBefore:
            return Answer(Table((), ()), coverage.version, note="No earlier period to compare with.")
        self._check_choices(name, dashboard, selection, coverage)
        table = self._table(name, dashboard, dataset, selection, coverage)
        return Answer(table, coverage.version, selection.start, selection.end)

    def _check_choices(self, name: str, dashboard: Dashboard, selection: Selection, coverage: Coverage) -> None:
        for key, item in dashboard.filters.items():
            value = selection.values.get(key)
            if not isinstance(item, ChoiceFilter) or value is None:
                continue
            options = self._table(name, dashboard, item.dataset, Selection({}), coverage)
            column = [column for column, _ in options.columns].index(item.field)
            if value not in {row[column] for row in options.rows}:
                raise FilterError(f"{item.label} '{str(value)[:60]}' is not in the data.")

    def _table(self, name: str, dashboard: Dashboard, dataset: str, selection: Selection, coverage: Coverage) -> Table:
        item = dashboard.datasets[dataset]
        values = [selection.values.get(parameter) for parameter in item.parameters]
        key = (name, item.statement, tuple(values), coverage.version)
        return self._tables.get(key, lambda: self._ask(name, dataset, item.statement, values))

    def _ask(self, name: str, dataset: str, statement: str, values: list[Any]) -> Table:
        tag = json.dumps({"app": "dashboards", "dashboard": name, "dataset": dataset})
        try:
            return self._source.ask(statement, values, tag)
        except StatementFailed as error:
            where = f"Dataset {dataset} of {files.FOLDER}/{name}.yml"
            raise StatementFailed(f"{where} failed in the warehouse: {error}") from error

    def _look(self, name: str, dashboard: Dashboard, digest: str) -> Coverage:
        dataset = dashboard.coverage.dataset
        table = self._ask(name, dataset, dashboard.datasets[dataset].statement, [])
        row = dict(zip([column for column, _ in table.columns], table.rows[0] if table.rows else (), strict=False))
        version = hashlib.sha256(repr((digest, table.rows)).encode()).hexdigest()[:16]
        data_from, data_to, complete_to = (_moment(row, name) for name in ("data_from", "data_to", "complete_to"))
        return Coverage(data_from, data_to, complete_to, version, row.get("note"))


def _moment(row: Mapping[str, Any], name: str) -> dt.datetime | None:
    value = row.get(name)
    return None if value is None else dt.datetime.fromisoformat(str(value).removesuffix("Z"))
