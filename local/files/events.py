"""Rows become events, each whole or not at all; every row that does not is told, with its reason."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from include.acceptance import refusals
from include.producing import key_of
from local.files.mapping import Mapping, Target
from local.files.rows import FileError, Row
from local.files.values import Dates, Numbers, Unreadable, boolean, day, integer, number, text, timestamp

BLOCK = 1_000  # events that are checked at a time
MAX_GROUP_ROWS = 100_000
PLACE = re.compile(r" at `([^`]+)`$|^([\w.\[\]]+):")  # where a reason of the parser says what is wrong
PLAIN_NUMBERS, PLAIN_DATES = Numbers(), Dates("UTC")  # how a mapping itself writes values
ENCODE = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that is not in any event. column: "" where it is the whole row."""

    row: int
    column: str
    value: str
    reason: str


@dataclass
class Group:
    """The rows of one event. faults: why it cannot be one."""

    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def all_faults(self) -> Iterator[Fault]:
        """The faults, and for each other row of the group that it goes with them."""
        bad = {fault.row for fault in self.faults}
        yield from self.faults
        cause = f"belongs to the event of row {min(bad)}, which cannot be sent"
        for row in self.rows:
            if row.number not in bad:
                yield Fault(row.number, "", "", cause)


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it is sent. rows: how many it was made of."""

    key: bytes
    value: bytes
    rows: int


class Events:
    """Makes the events of one file. tell: takes each fault."""

    def __init__(self, mapping: Mapping, targets: list[Target], tell: Callable[[Fault], None]) -> None:
        self.mapping, self.targets, self.tell = mapping, targets, tell
        self.key = key_of(mapping.topic)
        self._faults: list[Fault] = []  # of the block at hand
        self._seen: set[int] = set()  # hashes of event ids: 100 bytes each, which a file of 10 million events can have

    @property
    def columns(self) -> list[str]:
        """The file's columns that the mapping names."""
        names = [name for target in self.targets for one in target.all() for name in one.columns]
        return list(dict.fromkeys(self.mapping.group_by + names))

    def make(self, rows: Iterable[Row]) -> Iterator[Message]:
        """The events that the platform accepts, in the file's order."""
        groups = self._groups(rows)
        while block := list(islice(groups, BLOCK)):
            made: list[tuple[Group, bytes]] = []
            for group in block:
                event = self._object(self.targets, group.rows[0], 1, group) if not group.faults else {}
                if not group.faults:
                    self._check_id(event, group)
                if not group.faults:
                    made.append((group, ENCODE(event)))
                else:
                    self._faults += group.all_faults()
            reasons = refusals(self.mapping.topic, [value for _, value in made], time.time_ns() // 1_000_000)
            for index, (group, value) in enumerate(made):
                if index in reasons:
                    group.faults.append(self._fault(group, reasons[index]))
                    self._faults += group.all_faults()
                else:
                    yield Message(self.key(value), value, len(group.rows))
            self._tell_all()
        self._tell_all()

    def _tell_all(self) -> None:
        """Tells what has gathered, by row."""
        for fault in sorted(self._faults, key=lambda fault: fault.row):
            self.tell(fault)
        self._faults.clear()

    def _groups(self, rows: Iterable[Row]) -> Iterator[Group]:
        """Rows that follow each other and have the same values in the group_by columns; without them, each row.

        A row that does not tell its event may belong to the one before or after it, so neither is sent: an order that
        lacks a line would be taken for a whole one.
        """
        group, current, lost = Group(), None, 0
        for row in rows:
            key, fault = self._group_key(row)
            if fault is not None:
                self._faults.append(fault)
                if self.mapping.group_by and not lost:
                    lost = row.number
                    self._taint(group, lost)
                continue
            if not (group.rows and self.mapping.group_by and key == current):
                if group.rows:
                    yield group
                group, current = Group(), key
            group.rows.append(row)
            if lost:
                self._taint(group, lost)
                lost = 0
            if len(group.rows) > MAX_GROUP_ROWS:
                raise FileError(
                    f"more than {MAX_GROUP_ROWS:,} rows are one event, from row {group.rows[0].number}: "
                    "is group_by right?"
                )
        if group.rows:
            yield group

    def _taint(self, group: Group, lost: int) -> None:
        if group.rows:
            number = group.rows[-1].number
            group.faults.append(Fault(number, "", "", f"row {lost} beside it does not tell its event: it may be this"))

    def _group_key(self, row: Row) -> tuple[tuple[str, ...], Fault | None]:
        key = []
        if row.damage:
            return (), Fault(row.number, "", "", row.damage)
        for name in self.mapping.group_by:
            try:
                found = text(row.cells[name], self.mapping.null_words)
            except Unreadable as error:
                return (), Fault(row.number, name, _cells(row, [name]), str(error))
            if found is None:
                return (), Fault(row.number, name, _cells(row, [name]), "is empty: no telling which event it is of")
            key.append(found)
        return tuple(key), None

    def _check_id(self, event: dict[str, Any], group: Group) -> None:
        """The platform would drop a second event of the same id: it is told here instead."""
        name = event["event_id"]
        if hash(name) in self._seen:
            reason = "an event with this id has come before in the file: sort it by group_by, or put more into the id"
            group.faults.append(Fault(group.rows[0].number, "", str(name), reason))
        self._seen.add(hash(name))

    def _object(self, targets: list[Target], row: Row, position: int, group: Group) -> dict[str, Any]:
        """The fields of one object, from one row; arrays have an object for each row of the group."""
        found: dict[str, Any] = {}
        for target in targets:
            if target.kind == "array":
                found[target.name] = [
                    self._object(target.parts, one, place, group) for place, one in enumerate(group.rows, 1)
                ]
            elif target.kind == "object":
                inner = self._object(target.parts, row, position, group)
                found[target.name] = inner if target.is_required or any(v is not None for v in inner.values()) else None
            elif target.field.position:
                found[target.name] = position
            else:
                found[target.name] = self._value(target, row, group)
        return found

    def _value(self, target: Target, row: Row, group: Group) -> Any:
        """A single value; None and a fault where the cells do not give one."""
        try:
            if target.field.constant is not None:
                return _typed(target.kind, target.field.constant, PLAIN_NUMBERS, PLAIN_DATES)
            value = self._given(target, row)
            if value is not None:
                numbers, dates = target.field.numbers or self.mapping.numbers, target.field.dates or self.mapping.dates
                return _typed(target.kind, value, numbers, dates or PLAIN_DATES)
            if target.field.default is not None:
                return _typed(target.kind, target.field.default, PLAIN_NUMBERS, PLAIN_DATES)
            if target.is_required:
                raise Unreadable(f"is empty, and {target.path} is required")
            return None
        except Unreadable as error:
            group.faults.append(Fault(row.number, ", ".join(target.columns), _cells(row, target.columns), str(error)))
            return None

    def _given(self, target: Target, row: Row) -> Any:
        """The cell or the filled template before it is read as its kind; None where the cell is empty."""
        given = target.field
        null_words = self.mapping.null_words if given.null_words is None else given.null_words
        if given.template is not None:
            parts = {name: text(row.cells[name], null_words) for name in target.columns}
            if empty := [name for name, part in parts.items() if part is None]:
                raise Unreadable(f"{empty[0]} is empty, and {target.path} is made of it")
            return given.template.format(**parts)
        cell = row.cells[str(given.column)]
        plain = text(cell, null_words)
        if plain is None:
            return None
        if given.words:
            return target.words.get(plain.casefold(), plain)
        return plain if isinstance(cell, str) else cell

    def _fault(self, group: Group, reason: str) -> Fault:
        """The parser's reason, with the row and the column that the named field comes from."""
        match = PLACE.search(reason)
        path = (match[1] or match[2]) if match else ""
        index = re.search(r"\[(\d+)\]", path)
        row = group.rows[int(index[1])] if index and int(index[1]) < len(group.rows) else group.rows[0]
        plain = re.sub(r"\[\d+\]", "", path)
        columns = next((one.columns for target in self.targets for one in target.all() if one.path == plain), [])
        return Fault(row.number, ", ".join(columns), _cells(row, columns), reason)


def _typed(kind: str, value: Any, numbers: Numbers, dates: Dates) -> Any:
    match kind:
        case "integer":
            return integer(value, numbers)
        case "number":
            return number(value, numbers)
        case "boolean":
            return boolean(value)
        case "timestamp":
            return timestamp(value, dates)
        case "date":
            return day(value, dates)
    return text(value, ())


def _cells(row: Row, columns: list[str]) -> str:
    return " ".join("" if row.cells[name] is None else str(row.cells[name]) for name in columns)
