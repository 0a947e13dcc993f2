"""The mapping file: which column, constant or template each field of a topic's events comes from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

import msgspec
import yaml
from msgspec import Struct, inspect

from include.contracts.contract import generated
from local.files.rows import Format
from local.files.values import Dates, Numbers, zone

KINDS: dict[type, str] = {
    inspect.StrType: "string",
    inspect.LiteralType: "string",
    inspect.IntType: "integer",
    inspect.DecimalType: "number",
    inspect.DateTimeType: "timestamp",
    inspect.DateType: "date",
    inspect.BoolType: "boolean",
}


class MappingError(ValueError):
    """A mapping that does not fit its contract: which file, where in it, and what is wrong."""


class Field(Struct, forbid_unknown_fields=True):
    """Where a field's value comes from: exactly one of column, constant, template, position (of the row in its event,
    from 1), fields (an object), rows (an array with an object for each row). Constants and defaults are written
    plainly: 1234.5, true, 2026-11-23T10:00:00Z."""

    column: str | None = None
    constant: str | None = None
    template: str | None = None
    position: bool = False
    fields: dict[str, str | Field] | None = None
    rows: dict[str, str | Field] | None = None
    words: dict[str, str] | None = None
    default: str | None = None
    null_words: list[str] | None = None
    numbers: Numbers | None = None
    dates: Dates | None = None


class Mapping(Struct, forbid_unknown_fields=True):
    """A mapping file. numbers, dates and null_words hold for all fields that have none of their own."""

    topic: str
    event: dict[str, str | Field]
    input: Format = msgspec.field(default_factory=Format)
    group_by: list[str] = msgspec.field(default_factory=list)
    numbers: Numbers = msgspec.field(default_factory=Numbers)
    dates: Dates | None = None
    null_words: list[str] = msgspec.field(default_factory=list)


class Target(Struct, dict=True):
    """A field of the contract with its mapping. parts: of an object or an array."""

    name: str
    path: str
    kind: str
    is_required: bool
    field: Field
    parts: list[Target] = msgspec.field(default_factory=list)

    @cached_property
    def words(self) -> dict[str, str]:
        """The field's words, in any case."""
        return {word.casefold(): to for word, to in (self.field.words or {}).items()}

    @cached_property
    def columns(self) -> list[str]:
        """The columns that its value is made of."""
        if self.field.template is not None:
            return [name for _, name, _, _ in Formatter().parse(self.field.template) if name]
        return [self.field.column] if self.field.column is not None else []

    def all(self) -> Iterator[Target]:
        """This target and the parts below it."""
        yield self
        for part in self.parts:
            yield from part.all()


def read(file: Path) -> tuple[Mapping, list[Target]]:
    """The mapping and its targets. Raises MappingError."""
    try:
        # Every scalar as it is written: YAML would read the country NO as false and an id 007 as 7.
        mapping = msgspec.convert(yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader), Mapping, strict=False)
        event = inspect.type_info(generated(mapping.topic).Event)
        assert isinstance(event, inspect.StructType)
        targets = _targets(mapping, event, mapping.event, "")
    except OSError as error:
        raise MappingError(f"{file}: {error.strerror}") from error
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeError, LookupError, MappingError) as error:
        raise MappingError(f"{file}: {error.args[0] if isinstance(error, LookupError) else error}") from error
    return mapping, targets


def _targets(mapping: Mapping, struct: inspect.StructType, given: dict[str, str | Field], above: str) -> list[Target]:
    known = {field.name: field for field in struct.fields}
    if unknown := [name for name in given if name not in known]:
        raise MappingError(f"event.{above}{unknown[0]}: {mapping.topic} has no such field; it has {', '.join(known)}")
    if missing := [name for name, field in known.items() if field.required and name not in given]:
        raise MappingError(f"event: {above}{missing[0]} is required by {mapping.topic} and not mapped")
    return [
        _target(mapping, field, given[name] if name in given else Field(), f"{above}{name}")
        for name, field in known.items()
        if name in given
    ]


def _target(mapping: Mapping, field: inspect.Field, given: str | Field, path: str) -> Target:
    found = Field(column=given) if isinstance(given, str) else given
    sources = [
        name for name in ("column", "constant", "template", "fields", "rows") if getattr(found, name) is not None
    ] + ["position"] * found.position
    if len(sources) != 1:
        raise MappingError(f"event.{path}: give one of column, constant, template, position, fields, rows")
    shape: Any = field.type
    is_nullable = isinstance(shape, inspect.UnionType)
    if isinstance(shape, inspect.UnionType):
        (shape,) = [one for one in shape.types if not isinstance(one, inspect.NoneType)]
    target = Target(field.encode_name, path, "", field.required and not is_nullable, found)
    if isinstance(shape, inspect.ListType) and isinstance(shape.item_type, inspect.StructType):
        target.kind, parts, item = "array", found.rows, shape.item_type
    elif isinstance(shape, inspect.StructType):
        target.kind, parts, item = "object", found.fields, shape
    else:
        target.kind, parts, item = KINDS[type(shape)], None, None
    if (parts is None) != (item is None):
        word = {"array": "rows", "object": "fields"}.get(target.kind)
        raise MappingError(f"event.{path}: is {target.kind}" + (f", which needs `{word}`" if word else ""))
    if parts is not None and item is not None:
        target.parts = _targets(mapping, item, parts, f"{path}.")
    if target.kind in ("timestamp", "date"):
        dates = found.dates or mapping.dates
        if dates is None:
            raise MappingError(f"event.{path}: say how times are written: `dates: {{zone: Europe/London}}`")
        try:
            zone(dates.zone)
        except (KeyError, ValueError):
            raise MappingError(f"dates.zone: there is no time zone {dates.zone!r}") from None
    return target
