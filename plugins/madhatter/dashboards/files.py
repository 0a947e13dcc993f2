"""Dashboard files: read from the package `include.dashboards`, checked, errors with file and line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml
from pydantic import ValidationError

from madhatter.dashboards.model import ChoiceFilter, Dashboard, PeriodFilter

FOLDER = "include/dashboards"
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class FileError(Exception):
    """One thing wrong in a dashboard file. line: 1-based."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Shelf:
    """All dashboards by id, in the order of the page, and what is wrong with the files that are not among them."""

    dashboards: Mapping[str, Dashboard] = field(default_factory=dict)
    errors: tuple[FileError, ...] = ()
    digest: str = ""


def load(previous: Shelf | None = None) -> Shelf:
    """All dashboard files. Parses again only if a byte differs from `previous`: an edit shows on the next request."""
    entries = [entry for entry in files("include.dashboards").iterdir() if entry.name.endswith(".yml")]
    texts = {entry.name: entry.read_text() for entry in entries}
    digest = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()
    if previous is not None and previous.digest == digest:
        return previous
    found: dict[str, Dashboard] = {}
    errors: list[FileError] = []
    for name, text in texts.items():
        try:
            found[name.removesuffix(".yml")] = parse(text, f"{FOLDER}/{name}")
        except ExceptionGroup as group:
            errors.extend(error for error in group.exceptions if isinstance(error, FileError))
    ordered = dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))
    return Shelf(ordered, tuple(errors), digest)


def parse(text: str, file: str) -> Dashboard:
    """One dashboard. Raises ExceptionGroup of FileError, one for each thing that is wrong."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ExceptionGroup(file, [FileError(file, line, f"not YAML: {error.problem or error.context}")]) from None
    try:
        dashboard = Dashboard.model_validate(raw)
    except ValidationError as error:
        raise ExceptionGroup(
            file, [FileError(file, _line(root, item["loc"]), _words(item)) for item in error.errors(include_url=False)]
        ) from None
    problems = [FileError(file, _line(root, path), message) for path, message in _loose_ends(dashboard)]
    if problems:
        raise ExceptionGroup(file, problems)
    return dashboard


def _words(item: Any) -> str:
    where = ".".join(str(step) for step in item["loc"] if step not in ("period", "choice"))
    what = {"missing": "is missing", "extra_forbidden": "is not a word of dashboard files"}.get(
        item["type"], str(item["msg"]).removeprefix("Value error, ")
    )
    return f"{where}: {what}" if where else what


def _loose_ends(dashboard: Dashboard) -> Iterable[tuple[Path, str]]:
    """What refers to nothing: datasets, filters and parameters that the file does not have."""
    choices = {name for name, item in dashboard.filters.items() if isinstance(item, ChoiceFilter)}
    periods = [name for name, item in dashboard.filters.items() if isinstance(item, PeriodFilter)]
    known = choices | ({"start", "end"} if periods else set())
    if len(periods) > 1 or (periods and periods != ["period"]):
        yield ("filters", periods[-1]), "the one period filter is called `period`"
    for name in sorted(choices & {"start", "end", "from", "to", "compare", "version", "period"}):
        yield ("filters", name), f"`{name}` is taken: call the filter something else"
    uses: list[tuple[Path, str]] = [(("coverage", "dataset"), dashboard.coverage.dataset)]
    uses += [
        (("filters", name, "dataset"), item.dataset)
        for name, item in dashboard.filters.items()
        if isinstance(item, ChoiceFilter)
    ]
    for i, tile in enumerate(dashboard.tiles):
        uses.append((("tiles", i, "dataset"), tile.dataset))
        if tile.spark:
            uses.append((("tiles", i, "spark", "dataset"), tile.spark.dataset))
        if tile.compare == "previous" and not periods:
            yield ("tiles", i, "compare"), "comparing with the period before needs a period filter"
    for i, panel in enumerate(dashboard.panels):
        uses.append((("panels", i, "dataset"), panel.dataset))
        if panel.sets_filter and panel.sets_filter not in choices:
            yield ("panels", i, "sets_filter"), f"there is no choice filter {panel.sets_filter}"
    for path, dataset in uses:
        if dataset not in dashboard.datasets:
            yield path, f"there is no dataset {dataset}; known: {', '.join(dashboard.datasets)}"
    for name, item in dashboard.datasets.items():
        for parameter in sorted(set(item.parameters) - known):
            names = ", ".join(sorted(known)) or "none"
            yield ("datasets", name, "sql"), f"parameter :{parameter} is no filter; known: {names}"
    fixed = {dashboard.coverage.dataset}
    fixed |= {item.dataset for item in dashboard.filters.values() if isinstance(item, ChoiceFilter)}
    for name in sorted(fixed & dashboard.datasets.keys()):
        if dashboard.datasets[name].parameters:
            yield ("datasets", name, "sql"), "coverage and choices are read before any filter: use no parameters here"
    for kind, ids in (
        ("tiles", [tile.id for tile in dashboard.tiles]),
        ("panels", [panel.id for panel in dashboard.panels]),
    ):
        for i, name in enumerate(ids):
            if name in ids[:i]:
                yield (kind, i, "id"), f"id {name} is used before"


def _line(root: yaml.Node | None, path: Iterable[str | int]) -> int:
    """The line of the deepest node on `path` that exists; for a key that should not be there, the key's own line."""
    line, node = (root.start_mark.line if root is not None else 0), root
    for step in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    line, node = key.start_mark.line, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
    return line + 1
