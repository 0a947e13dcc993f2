"""What a dashboard file may say. Every class is closed: a word that is not declared here is an error in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Format = Literal["money", "count", "percent", "seconds", "text", "time", "date"]
Period = Literal["24h", "7d", "30d", "90d", "12m", "all"]

PLACEHOLDER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_SOURCE = re.compile(r"\b(?:from|join)\s+(?!table\s*\()([a-z_][a-z0-9_.$\"]*)", re.IGNORECASE)
_COMMON_TABLE = re.compile(r"([a-z_][a-z0-9_]*)\s+as\s*\(\s*select\b", re.IGNORECASE)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
# What is published (reporting) and how the platform keeps its books (two views of ops); never core or staging.
READABLE = re.compile(r"^(?:reporting\.[a-z_0-9]+|ops\.reconciliation|ops\.dead_letter)$", re.IGNORECASE)


@cache
def palette() -> dict[str, dict[str, str]]:
    """{theme: {meaning: CSS colour}}: the only place where colours of data are chosen. Theme: light or dark."""
    text = (files(__package__) / "static" / "palette.json").read_text()
    return dict(json.loads(text))


class Part(BaseModel):
    """Base of all parts of a dashboard file: immutable, closed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dataset(Part):
    """One SELECT over reporting. `:name` is bound: start, end (UTC, end exclusive) or a choice filter's id."""

    sql: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in order of appearance, repeated as often as they appear."""
        return tuple(PLACEHOLDER.findall(_COMMENT.sub(" ", self.sql)))

    @property
    def statement(self) -> str:
        """The SQL with positional placeholders, as the driver sends it to the warehouse beside the values."""
        return PLACEHOLDER.sub("?", _COMMENT.sub(" ", self.sql)).strip()

    @field_validator("sql")
    @classmethod
    def reads_only(cls, sql: str) -> str:
        text = _COMMENT.sub(" ", sql).strip()
        if not re.match(r"(?:select|with)\b", text, re.IGNORECASE):
            raise ValueError("a dataset is one SELECT (or WITH ... SELECT)")
        if ";" in text:
            raise ValueError("a dataset is one statement without a semicolon")
        if "?" in text:
            raise ValueError("`?` is how values are bound: write `:name`, and no `?` in texts and patterns")
        local = {name.lower() for name in _COMMON_TABLE.findall(text)}
        for table in _SOURCE.findall(text):
            if table.lower() not in local and not READABLE.match(table):
                allowed = "reporting.*, ops.reconciliation or ops.dead_letter"
                raise ValueError(f"{table} is not for dashboards: read {allowed}")
        return sql


class PeriodFilter(Part):
    """Binds :start and :end. The newest choice ends where the data ends, not at the browser's clock."""

    kind: Literal["period"]
    label: str = "Period"
    default: Period = "12m"
    choices: tuple[Period, ...] = ("30d", "90d", "12m", "all")

    @model_validator(mode="after")
    def default_is_a_choice(self) -> PeriodFilter:
        if self.default not in self.choices:
            raise ValueError(f"default {self.default} is not among the choices {', '.join(self.choices)}")
        return self


class ChoiceFilter(Part):
    """Binds :<id> to one value of a dataset's field, or to NULL for all."""

    kind: Literal["choice"]
    label: str
    dataset: Name
    field: Name
    all: str = "All"


Filter = Annotated[PeriodFilter | ChoiceFilter, Field(discriminator="kind")]


class Coverage(Part):
    """Where freshness is read: a dataset of one row with data_from, data_to, complete_to and perhaps a note.

    Any change in its row is a new version of the data. promise_min: the oldest that complete_to may be.
    """

    dataset: Name
    promise_min: int = Field(gt=0)


class Spark(Part):
    """A tile's line: one number a row, in the dataset's order."""

    dataset: Name
    field: Name


class Tile(Part):
    """One key figure: the first row's field of a dataset."""

    id: Name
    label: str
    dataset: Name
    field: Name
    format: Format
    help: str = ""
    better: Literal["higher", "lower", "neither"] = "neither"
    compare: Literal["none", "previous"] = "none"
    colour: str = "$ink"
    spark: Spark | None = None
    alarm_above: float | None = None


class Column(Part):
    """One column of a table panel. badge: {value: tone}."""

    field: Name
    label: str
    format: Format = "text"
    badge: dict[str, Literal["good", "warn", "bad", "calm"]] = {}


class Panel(Part):
    """A chart (Vega-Lite; the dataset arrives as data `rows`; colours are `$meaning`) or a table."""

    id: Name
    title: str
    subtitle: str = ""
    dataset: Name
    kind: Literal["chart", "table"] = "chart"
    width: int = Field(default=12, ge=3, le=12)
    height: int = Field(default=260, ge=80, le=900)
    spec: dict[str, Any] = {}
    columns: tuple[Column, ...] = ()
    sets_filter: Name | None = None
    empty: str = "Nothing in this period."

    @field_validator("spec")
    @classmethod
    def colours_have_meanings(cls, spec: dict[str, Any]) -> dict[str, Any]:
        for token in _tokens(spec):
            if token[1:] not in palette()["light"]:
                known = ", ".join("$" + meaning for meaning in palette()["light"])
                raise ValueError(f"colour {token} has no meaning; known: {known}")
        if "data" in spec or '"url"' in json.dumps(spec):
            raise ValueError("a chart's data is its dataset: leave `data` and `url` out")
        return spec

    @model_validator(mode="after")
    def kind_has_its_body(self) -> Panel:
        if self.kind == "chart" and not self.spec:
            raise ValueError("a chart needs a `spec` (Vega-Lite)")
        if self.kind == "table" and not self.columns:
            raise ValueError("a table needs `columns`")
        return self


def _tokens(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if not isinstance(key, str):
                raise ValueError(f"a key reads as {key}: YAML takes on, off, yes and no for booleans, put it in quotes")
            yield from _tokens(value)
    elif isinstance(node, list):
        for value in node:
            yield from _tokens(value)
    elif isinstance(node, str) and re.fullmatch(r"\$[a-z_]\w*", node):
        yield node


class Dashboard(Part):
    """One file in include/dashboards; its id is the file's name."""

    title: str
    summary: str
    order: int = 100
    coverage: Coverage
    filters: dict[Name, Filter] = {}
    datasets: dict[Name, Dataset]
    tiles: tuple[Tile, ...] = ()
    panels: tuple[Panel, ...]
