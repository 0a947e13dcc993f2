"""Reads ODCS v3 files into contracts. What ODCS allows and the platform cannot honour is an error, with its place."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
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

from include.contracts.contract import POSITION_COLUMNS, Column, Contract, Expectation, Kind, Table

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
    """All contracts of a folder, by topic. Raises ContractError when two files describe the same topic or table."""
    contracts = [read(path) for path in sorted(folder.glob("*.yaml"))]
    seen: dict[str, str] = {}
    for contract in contracts:
        for name in (contract.topic, *(table.name for table in contract.tables)):
            if name in seen:
                raise ContractError(f"{contract.topic}.yaml: {name!r} is already described by {seen[name]}.yaml")
            seen[name] = contract.topic
    return contracts


class _Reader:
    """Walks one file; keeps its name for the errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ContractError(f"{path.name}: not YAML: {error}") from error
        schema = json.loads(OpenDataContractStandard.json_schema())  # type: ignore[no-untyped-call]
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
            if prop.logicalType == "array":
                tables.append(self.child(prop, tables[0]))
        names = {column.name: column for column in tables[0].columns}
        for name, kind in (("event_id", "string"), ("event_ts", "timestamp")):
            if name not in names or names[name].kind != kind or not names[name].is_required:
                raise self.fail(f"schema.{event.name}", f"a required {kind} property {name} is needed in every event")
        return Contract(
            topic=topic,
            version=str(odcs.version),
            description=str(odcs.description.purpose if odcs.description else ""),
            partitions=self.whole_number("partitions", at_least=1),
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

    def utc(self, value: Any) -> datetime:
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            place = "customProperties.acceptedFrom"
            raise self.fail(place, f"{value} is no time with a zone; write 2009-01-01T00:00:00Z")
        return moment

    def child(self, array: SchemaProperty, root: Table) -> Table:
        place = f"schema.{root.name}.{array.name}"
        if array.items is None or array.items.logicalType != "object" or not array.physicalName:
            raise self.fail(place, "an array needs physicalName (its table) and items of logicalType object")
        inherits: list[str] = []
        for prop in array.customProperties or []:
            if prop.property == "inherits":
                inherits = list(prop.value or [])
        parents = {column.name: column for column in root.columns}
        if unknown := set(inherits) - set(parents):
            raise self.fail(f"{place}.inherits", f"{', '.join(sorted(unknown))} is no column of {root.name}")
        columns = tuple(replace(parents[name], is_inherited=True) for name in inherits)
        items = array.items
        shell = SchemaObject(
            name=array.name, physicalName=array.physicalName, description=items.description, quality=items.quality
        )
        options = dict(array.logicalTypeOptions or {})
        if unknown := set(options) - {"minItems", "maxItems"}:
            raise self.fail(place, f"{', '.join(sorted(unknown))} is not understood for an array")
        table = self.table(shell, array.name, items.properties or [], columns)
        return replace(table, min_items=options.get("minItems", 0), max_items=options.get("maxItems"))

    def table(
        self, obj: SchemaObject, array: str | None, properties: list[SchemaProperty], inherited: tuple[Column, ...]
    ) -> Table:
        name = obj.physicalName or str(obj.name)
        if not name.isidentifier():
            raise self.fail(
                f"schema.{obj.name}", f"physicalName {name!r} is no table name: letters, digits, underscores"
            )
        columns = [*inherited]
        for prop in properties:
            if prop.logicalType != "array":
                columns.extend(self.columns(prop, f"schema.{name}", (), required=True))
        names = [column.name for column in columns] + [column for column, _ in POSITION_COLUMNS]
        if doubles := {column for column in names if names.count(column) > 1}:
            raise self.fail(f"schema.{name}", f"column names stand twice: {', '.join(sorted(doubles))}")
        return Table(
            name=name,
            array=array,
            grain=obj.dataGranularityDescription or f"One row per item of {array}.",
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
            )
        ]

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


def kind_of(text: str) -> Kind:
    """Narrows a checked logicalType."""
    assert text in SQL_TYPES
    return text  # type: ignore[return-value]
