"""Reads ODCS v3 files into contracts. What ODCS allows and the platform cannot honour is an error, with its place."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import jsonschema
import yaml
from open_data_contract_standard.model import (
    DataQuality,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)

from include.contracts.changes import breaking
from include.contracts.contract import (
    POSITION_COLUMNS,
    Column,
    Contract,
    Expectation,
    Kind,
    Lookup,
    Table,
    generated,
    topics,
)
from include.references import REFERENCES, columns_of

FOLDER = Path(__file__).parent
SQL_TYPES = {
    "string": r"varchar\([1-9]\d*\)",
    "integer": r"number\(\d+,0\)",
    "number": r"number\(\d+,\d+\)",
    "timestamp": r"timestamp_ntz",
    "date": r"date",
    "boolean": r"boolean",
}
OPTIONS = {"string": {"minLength"}, "integer": {"minimum", "maximum"}, "number": {"minimum", "maximum"}}


class ContractError(ValueError):
    """A contract file that cannot be used: file, place in it, what was found, what is expected."""


def read(path: Path) -> Contract:
    """The contract in one ODCS file. Raises ContractError naming file and place."""
    return _Reader(path).contract()


def read_all(folder: Path = FOLDER) -> list[Contract]:
    """All contracts of a folder, by topic. Raises ContractError when two topics describe a table that they share
    differently."""
    contracts = [read(path) for path in sorted(folder.glob("*.yaml"))]
    seen: dict[str, tuple[str, Table]] = {}
    for contract in contracts:
        for table in contract.tables:
            topic, known = seen.setdefault(table.name, (contract.topic, table))
            if fault := _difference(known, table):
                raise ContractError(f"{contract.topic}.yaml: schema.{table.name}: {fault} in {topic}.yaml")
    return contracts


def refuse_breaking(contracts: list[Contract]) -> None:
    """Raises ContractError when a contract breaks with the version of it that `make contract` wrote last."""
    for new in contracts:
        if new.topic in topics() and (found := breaking(generated(new.topic).CONTRACT, new)):
            raise ContractError(
                f"{new.topic}.yaml: {found[0]}: a breaking change. Stored events and their readers know the old one: "
                "add an optional column, or describe a new topic"
            )


def _difference(known: Table, table: Table) -> str:
    """Why two tables of one name cannot share rows; empty when they can."""
    if (known.part, known.grain) != (table.part, table.grain):
        mine, theirs = (f"{one.grain!r} of {one.part or 'the event'}" for one in (table, known))
        return f"its rows are {mine}, but {theirs}"
    types = {column.name: column.sql_type for column in known.columns}
    for column in table.columns:
        if types.get(column.name, column.sql_type) != column.sql_type:
            return f"column {column.name} is {column.sql_type}, but {types[column.name]}"
    return ""


class _Reader:
    """Walks one file; keeps its name for the errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ContractError(f"{path.name}: not YAML: {error}") from error
        schema = json.loads(files("open_data_contract_standard").joinpath("schema.json").read_text())
        plain = json.loads(json.dumps(raw, default=str))
        for fault in jsonschema.Draft201909Validator(schema).iter_errors(plain):
            place = ".".join(map(str, fault.absolute_path)) or "top level"
            raise ContractError(f"{path.name}: {place}: {fault.message[:300]}")
        self.odcs = OpenDataContractStandard(**raw)

    def fail(self, place: str, message: str) -> ContractError:
        return ContractError(f"{self.path.name}: {place}: {message}")

    def contract(self) -> Contract:
        odcs = self.odcs
        topic = str(odcs.id)
        if topic != self.path.stem:
            raise self.fail("id", f"{topic!r} is not the file's name {self.path.stem!r}; the id is the topic")
        if not odcs.schema_ or len(odcs.schema_) != 1:
            raise self.fail("schema", "exactly one object is expected, the event; its arrays become tables")
        event = odcs.schema_[0]
        tables = [self.table(event, None, event.properties or [], ())]
        for prop in event.properties or []:
            if _is_part(prop):
                tables.append(self.part(prop, tables[0]))
        names = {column.name: column for column in tables[0].columns}
        for name, kind in (("event_id", "string"), ("event_ts", "timestamp")):
            if name not in names or names[name].kind != kind or not names[name].is_required:
                raise self.fail(f"schema.{event.name}", f"a required {kind} property {name} is needed in every event")
        return Contract(
            topic=topic,
            version=str(odcs.version),
            description=str(odcs.description.purpose if odcs.description else ""),
            partitions=self.whole_number("partitions", at_least=1),
            key=self.key(tables[0]),
            retention_ms=self.whole_number("retentionMs", at_least=-1),
            accepted_from=self.utc(self.setting("acceptedFrom")),
            accepted_ahead_s=self.whole_number("acceptedAheadS", at_least=0),
            tables=tuple(tables),
        )

    def setting(self, name: str) -> Any:
        for prop in self.odcs.customProperties or []:
            if prop.property == name:
                return prop.value
        raise self.fail("customProperties", f"{name} is missing")

    def whole_number(self, name: str, *, at_least: int) -> int:
        value = self.setting(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise self.fail(f"customProperties.{name}", f"{value!r} is not a whole number of at least {at_least}")
        return value

    def key(self, event: Table) -> tuple[str, ...]:
        value = self.setting("key")
        texts = {column.path for column in event.columns if column.kind == "string" and column.is_sent}
        if not isinstance(value, list) or not value or not texts.issuperset(value):
            raise self.fail("customProperties.key", f"{value!r} is not a list of the event's string fields")
        return tuple(value)

    def utc(self, value: Any) -> datetime:
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            place = "customProperties.acceptedFrom"
            raise self.fail(place, f"{value} is no time with a zone; write 2009-01-01T00:00:00Z")
        return moment

    def part(self, prop: SchemaProperty, root: Table) -> Table:
        """The table of an array, or of an object with a physicalName."""
        place = f"schema.{root.name}.{prop.name}"
        is_object = prop.logicalType == "object"
        items = prop if is_object else prop.items
        if items is None or items.logicalType != "object" or not prop.physicalName:
            raise self.fail(place, "an array needs physicalName (its table) and items of logicalType object")
        inherits: list[str] = []
        for custom in prop.customProperties or []:
            if custom.property == "inherits":
                inherits = list(custom.value or [])
        parents = {column.name: column for column in root.columns}
        if unknown := set(inherits) - set(parents):
            raise self.fail(f"{place}.inherits", f"{', '.join(sorted(unknown))} is no column of {root.name}")
        if missing := {"event_id", "event_ts"} - set(inherits):
            raise self.fail(f"{place}.inherits", f"{', '.join(sorted(missing))} is missing: rows are found by it")
        columns = tuple(replace(parents[name], is_inherited=True, lookup=None) for name in inherits)
        shell = SchemaObject(
            name=prop.name, physicalName=prop.physicalName, description=items.description, quality=items.quality
        )
        options = dict(prop.logicalTypeOptions or {})
        if unknown := set(options) - (set() if is_object else {"minItems", "maxItems"}):
            raise self.fail(place, f"{', '.join(sorted(unknown))} is not understood for an {prop.logicalType}")
        table = self.table(shell, str(prop.name), items.properties or [], columns)
        return replace(
            table,
            grain=f"One row per event with {prop.name}." if is_object else table.grain,
            is_object=is_object,
            is_required=bool(prop.required),
            min_items=int(bool(prop.required)) if is_object else options.get("minItems", 0),
            max_items=None if is_object else options.get("maxItems"),
        )

    def table(
        self, obj: SchemaObject, part: str | None, properties: list[SchemaProperty], inherited: tuple[Column, ...]
    ) -> Table:
        name = obj.physicalName or str(obj.name)
        if not name.isidentifier():
            raise self.fail(
                f"schema.{obj.name}", f"physicalName {name!r} is no table name: letters, digits, underscores"
            )
        columns = [*inherited]
        for prop in properties:
            if not _is_part(prop):
                columns.extend(self.columns(prop, f"schema.{name}", (), required=True))
        names = [column.name for column in columns] + [column for column, _ in POSITION_COLUMNS]
        if doubles := {column for column in names if names.count(column) > 1}:
            raise self.fail(f"schema.{name}", f"column names stand twice: {', '.join(sorted(doubles))}")
        for column in columns:
            if column.lookup and column.lookup.key not in names:
                place = f"schema.{name}.{column.name}.transformSourceObjects"
                raise self.fail(place, f"{column.lookup.key!r} is no column of {name}")
        return Table(
            name=name,
            part=part,
            grain=obj.dataGranularityDescription or f"One row per item of {part}.",
            description=obj.description or "",
            columns=tuple(columns),
            expectations=tuple(self.expectation(rule, f"schema.{name}.quality", names) for rule in obj.quality or []),
        )

    def columns(self, prop: SchemaProperty, place: str, above: tuple[str, ...], *, required: bool) -> list[Column]:
        """A property's columns: one, or for an object those of its properties, named object_property."""
        path = (*above, str(prop.name))
        place = f"{place}.{prop.name}"
        if not str(prop.name).isidentifier():
            raise self.fail(place, "a property's name is letters, digits and underscores")
        if prop.logicalType == "object":
            required = required and bool(prop.required)
            return [c for p in prop.properties or [] for c in self.columns(p, place, path, required=required)]
        kind = str(prop.logicalType)
        sql_type = (prop.physicalType or "").lower().replace(" ", "")
        if kind not in SQL_TYPES:
            raise self.fail(place, f"logicalType {kind!r} is not one of {', '.join(SQL_TYPES)}, object, array")
        if not re.fullmatch(SQL_TYPES[kind], sql_type):
            raise self.fail(place, f"physicalType {prop.physicalType!r} does not fit logicalType {kind}")
        if not prop.description or not prop.examples:
            raise self.fail(place, "description and one example are needed: they become the documentation")
        if prop.classification not in (None, "personal"):
            raise self.fail(
                place, f"classification {prop.classification!r} is not known: write personal, or leave it out"
            )
        if not (prop.physicalName or "x").isidentifier():
            raise self.fail(
                place, f"physicalName {prop.physicalName!r} is no column name: letters, digits, underscores"
            )
        if any(value.value is None for value in prop.enum or []):
            raise self.fail(f"{place}.enum", "a value is empty; leave out `required` to allow null")
        options = dict(prop.logicalTypeOptions or {})
        known = OPTIONS.get(kind, set())
        if unknown := set(options) - known:
            raise self.fail(f"{place}.logicalTypeOptions", f"{', '.join(sorted(unknown))} is not understood for {kind}")
        digits = int(re.findall(r"\d+", sql_type)[0]) if kind in ("integer", "number", "string") else 0
        limit = 10**digits - 1
        is_integer = kind == "integer"
        return [
            Column(
                name=prop.physicalName or "_".join(path),
                path=".".join(path),
                kind=kind_of(kind),
                sql_type=sql_type,
                description=prop.description,
                is_required=required and bool(prop.required),
                is_personal=prop.classification == "personal",
                enum=tuple(str(value.value) for value in prop.enum or []),
                minimum=options.get("minimum", -limit if is_integer else None),
                maximum=options.get("maximum", limit if is_integer else None),
                min_length=options.get("minLength"),
                max_length=digits if kind == "string" else None,
                lookup=self.lookup(prop, place, kind),
            )
        ]

    def lookup(self, prop: SchemaProperty, place: str, kind: str) -> Lookup | None:
        """The reference that a property is looked up in: transformSourceObjects names its key, transformLogic
        `reference.column`."""
        if not prop.transformLogic:
            return None
        reference, _, value = prop.transformLogic.partition(".")
        if reference not in REFERENCES or value not in columns_of(reference)[1:]:
            known = ", ".join(f"{name}.{column}" for name in REFERENCES for column in columns_of(name)[1:])
            raise self.fail(f"{place}.transformLogic", f"{prop.transformLogic!r} is not one of {known}")
        if kind != "string" or prop.required or len(prop.transformSourceObjects or []) != 1:
            message = "what is looked up is an optional string with one column in transformSourceObjects"
            raise self.fail(place, message)
        return Lookup(reference, str(prop.transformSourceObjects[0]), value)  # type: ignore[index]

    def expectation(self, rule: DataQuality, place: str, columns: list[str]) -> Expectation:
        place = f"{place}.{rule.name}"
        body = rule.implementation
        if rule.engine != "greatExpectations" or not isinstance(body, dict) or "type" not in body:
            raise self.fail(place, "a rule has engine: greatExpectations and implementation: {type, kwargs}")
        if rule.severity not in ("error", "warning"):
            raise self.fail(place, f"severity {rule.severity!r} is not error (holds the slice) or warning (tells)")
        kwargs = dict(body.get("kwargs") or {})
        if "column" in kwargs and kwargs["column"] not in columns:
            raise self.fail(place, f"column {kwargs['column']!r} is not in the table")
        severity: Literal["error", "warning"] = "error" if rule.severity == "error" else "warning"
        return Expectation(str(rule.name), str(body["type"]), kwargs, severity, rule.description or "")


def _is_part(prop: SchemaProperty) -> bool:
    """Whether a property becomes a table of its own."""
    return prop.logicalType == "array" or (prop.logicalType == "object" and bool(prop.physicalName))


def kind_of(text: str) -> Kind:
    """Narrows a checked logicalType."""
    assert text in SQL_TYPES
    return text  # type: ignore[return-value]
