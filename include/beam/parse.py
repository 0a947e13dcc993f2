"""Turns raw records into the contract's tables, and what cannot be turned into dead letters with a reason.

An event is accepted whole or not at all: one bad line makes it a dead letter. The structs that `make contract`
generates check names, types, lengths and enums (msgspec); this module checks what a type cannot say: decimals,
minimums, time windows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.beam import cards
from include.beam.source import Records
from include.contracts.contract import Column, Contract, Table, generated
from include.references import Reference

MICROSECONDS = pa.timestamp("us")
MICROSECONDS_UTC = pa.timestamp("us", "UTC")
MAX_PAYLOAD = 1_000_000
BLOCK = 10_000  # events decoded at a time: they stay in the processor's cache, which saves a quarter of the time
MAX_REASON = 2_000  # characters: a reason quotes the event, and ops.dead_letter takes 2,048
MOST_POISON = 100  # records of a block on which the parser itself fails; of more, it is the parser's fault
Reasons = dict[int, str]
log = logging.getLogger(__name__)


# Not the record's fault: tried again, it may go well.
_PASSING = (OSError, MemoryError)


@dataclass(frozen=True)
class Parsed:
    """Tables by name, without position columns; `events` says for every row of a table its record's index.
    `reasons`: record index -> why it is a dead letter. `masked`: records with a card number in a text."""

    tables: dict[str, pa.Table]
    events: dict[str, np.ndarray[Any, Any]]
    reasons: Reasons = field(default_factory=dict)
    masked: set[int] = field(default_factory=set)


class Parser:
    """Parses the records of one topic. references: the tables that its columns are looked up in, by name."""

    def __init__(self, topic: str, references: Mapping[str, Reference]) -> None:
        self.references = references
        module = generated(topic)
        self.contract: Contract = module.CONTRACT
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(module.Event).decode

    def parse(self, records: Records) -> Parsed:
        """Every record becomes rows or a reason; none is dropped, no input raises. A record on which the parser fails
        in a way that nobody foresaw is a dead letter with the exception's words, and told in the log."""
        starts = range(0, len(records) or 1, BLOCK)
        blocks = [self._foolproof(records, start, min(start + BLOCK, len(records))) for start in starts]
        return Parsed(
            {name: pa.concat_tables([block.tables[name] for block in blocks]) for name in blocks[0].tables},
            {name: np.concatenate([block.events[name] for block in blocks]) for name in blocks[0].events},
            {index: _line(reason) for block in blocks for index, reason in block.reasons.items()},
            {index for block in blocks for index in block.masked},
        )

    def _foolproof(self, records: Records, start: int, end: int) -> Parsed:
        """_block(), without the records on which it fails alone. Raises what it fails with when those are none, or too
        many."""
        known = {index: reason for index, reason in records.rejected.items() if start <= index < end}
        try:
            return self._block(records, start, end, known)
        except _PASSING:
            raise
        except Exception:
            poison = dict(islice(self._poison(records, start, end), MOST_POISON + 1))
            if not poison or len(poison) > MOST_POISON:
                raise
            places = [records.offsets[index] for index in sorted(poison)]
            log.exception("%s: the parser fails on offsets %s: dead letters", self.contract.topic, places)
            return self._block(records, start, end, known | poison)

    def _poison(self, records: Records, start: int, end: int) -> Iterator[tuple[int, str]]:
        """The records on which _block() fails alone, found by halves, each with its reason."""
        try:
            self._block(records, start, end, records.rejected)
        except _PASSING:
            raise
        except Exception as error:
            if end - start > 1:
                middle = (start + end) // 2
                yield from self._poison(records, start, middle)
                yield from self._poison(records, middle, end)
            else:
                yield start, f"the parser fails on it: {type(error).__name__}: {error}"

    def _block(self, records: Records, start: int, end: int, poison: Reasons) -> Parsed:
        """The records [start, end) but for the poison, whose reasons are known; indices are those of `records`."""
        events: list[Any] = []
        positions: list[int] = []
        reasons: Reasons = dict(poison)
        decode = self.decode
        for index, value in enumerate(records.values[start:end], start):
            if index in poison:
                continue
            try:
                events.append(decode(value))
                positions.append(index)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                reasons[index] = _reason(value, error)
        origin = np.array(positions, dtype=np.int64)
        arrived = pa.array(records.arrivals_ms[start:end], pa.int64())
        arrivals = arrived.take(origin - start).cast(pa.timestamp("ms")).cast(MICROSECONDS)
        columns: dict[str, dict[str, pa.Array]] = {}
        rows_of: dict[str, np.ndarray[Any, Any]] = {}
        faults: Reasons = {}  # index in `events` -> reason
        masked: set[int] = set()  # indices in `events`
        for table in self.contract.tables:
            rows, parents = _rows(table, events)
            made = {c.name: _column(c, rows, _Place(table, parents), faults) for c in table.columns if c.is_sent}
            if table.part is None:
                self._check_time(made["event_ts"], arrivals, faults)
            else:
                root = columns[self.contract.tables[0].name]
                made |= {c.name: root[c.name].take(parents) for c in table.columns if c.is_inherited}
            for column in table.columns:
                if column.is_text:
                    made[column.name] = _without_cards(
                        column, made[column.name], _Place(table, parents), faults, masked
                    )
                if lookup := column.lookup:
                    made[column.name] = self.references[lookup.reference].values(made[lookup.key], lookup.value)
            columns[table.name], rows_of[table.name] = made, parents
        reasons |= {positions[event]: reason for event, reason in faults.items()}
        tables = {}
        for table in self.contract.tables:
            rows, parents = pa.table({c.name: columns[table.name][c.name] for c in table.columns}), rows_of[table.name]
            if faults:
                keep = ~np.isin(parents, np.fromiter(faults, dtype=np.int64))
                rows, parents = rows.filter(pa.array(keep)), parents[keep]
            tables[table.name], rows_of[table.name] = rows, origin[parents]
        return Parsed(tables, rows_of, reasons, {positions[event] for event in masked})

    def _check_time(self, event_ts: pa.Array, arrivals: pa.Array, faults: Reasons) -> None:
        """event_ts lies in the contract's window: not before accepted_from, not too far ahead of arrival."""
        earliest = pa.scalar(self.contract.accepted_from.replace(tzinfo=None), MICROSECONDS)
        ahead = timedelta(seconds=self.contract.accepted_ahead_s)
        for index in _true(pc.less(event_ts, earliest)):
            text = f"is before {self.contract.accepted_from:%Y-%m-%d}"
            faults.setdefault(index, f"event_ts: {_moment(event_ts[index])} {text}")
        for index in _true(pc.greater(event_ts, pc.add(arrivals, pa.scalar(ahead)))):
            text = f"is more than {self.contract.accepted_ahead_s} s ahead of its arrival at {_moment(arrivals[index])}"
            faults.setdefault(index, f"event_ts: {_moment(event_ts[index])} {text}")


@dataclass(frozen=True)
class _Place:
    """Finds the event of a row and says where the row is."""

    table: Table
    parents: np.ndarray[Any, Any]

    def event(self, row: int) -> int:
        return int(self.parents[row])

    def path(self, row: int, column: Column) -> str:
        if self.table.part is None:
            return column.path
        if self.table.is_object:
            return f"{self.table.part}.{column.path}"
        first = int(np.searchsorted(self.parents, self.parents[row]))
        return f"{self.table.part}[{row - first}].{column.path}"


def _rows(table: Table, events: list[Any]) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """The structs that become rows of a table, and for each the index of its event."""
    if table.part is None:
        return events, np.arange(len(events), dtype=np.int64)
    arrays = list(map(attrgetter(table.part), events))
    if table.is_object:
        arrays = [() if part is None else (part,) for part in arrays]
    lengths = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
    return [row for array in arrays for row in array], np.repeat(np.arange(len(events), dtype=np.int64), lengths)


def _column(column: Column, rows: list[Any], place: _Place, faults: Reasons) -> pa.Array:
    """The column's values over all rows; a value it cannot hold becomes null and its event a fault."""
    values = list(map(attrgetter(column.path) if column.is_required else _getter(column.path), rows))
    if column.kind == "number":
        return _decimals(column, values, place, faults)
    kind = {
        "string": pa.string(),
        "integer": pa.int64(),
        "timestamp": MICROSECONDS_UTC,
        "date": pa.date32(),
        "boolean": pa.bool_(),
    }[column.kind]
    array = _array(
        values, kind, lambda row, error: faults.setdefault(place.event(row), f"{place.path(row, column)}: {error}")
    )
    return array.cast(MICROSECONDS) if column.kind == "timestamp" else array


def _getter(path: str) -> Callable[[Any], Any]:
    """Value at a path; null where an object above it is missing."""
    if "." not in path:
        return attrgetter(path)
    first, rest = path.split(".", 1)
    inner = _getter(rest)

    def get(row: Any) -> Any:
        above = getattr(row, first)
        return None if above is None else inner(above)

    return get


def _array(values: list[Any], kind: pa.DataType, fault: Callable[[int, Exception], Any]) -> pa.Array:
    """The values as one array. Where that fails, the values that cause it become null, each told to `fault`."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError, UnicodeError):
        kept = list(values)
        for row, value in enumerate(values):
            try:
                pa.scalar(value, kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError, UnicodeError) as error:
                kept[row] = None
                fault(row, error)
        return pa.array(kept, kind)


def _decimals(column: Column, values: list[Decimal | None], place: _Place, faults: Reasons) -> pa.Array:
    digits, decimals = column.precision

    def fault(row: int, _: Exception) -> None:
        text = f"{values[row]} does not fit {digits - decimals} digits and {decimals} decimals"
        faults.setdefault(place.event(row), f"{place.path(row, column)}: {text}")

    array = _array(values, pa.decimal128(digits, decimals), fault)
    for limit, beyond, words in (
        (column.minimum, pc.less, "is below the minimum"),
        (column.maximum, pc.greater, "is above the maximum"),
    ):
        if limit is not None and len(array):
            for row in _true(beyond(array, pa.scalar(Decimal(str(limit)), array.type))):
                text = f"{values[row]} {words} {limit}"
                faults.setdefault(place.event(row), f"{place.path(row, column)}: {text}")
    return array


def _without_cards(column: Column, texts: pa.Array, place: _Place, faults: Reasons, masked: set[int]) -> pa.Array:
    """The texts with card numbers masked and their events added to `masked`; in an identifier one is a fault."""
    changed: dict[int, str] = {}
    for row in cards.suspects(texts, are_identifiers=column.is_identifier):
        text = texts[row].as_py()
        if column.is_identifier:
            if cards.is_in_identifier(text):
                reason = f"{place.path(row, column)}: a card number in an identifier, send a token in its place"
                faults.setdefault(place.event(row), reason)
        elif (without := cards.mask_text(text)) != text:
            changed[row] = without
    if not changed:
        return texts
    masked.update(map(place.event, changed))
    return pa.array([changed.get(row, text) for row, text in enumerate(texts.to_pylist())], pa.string())


def _moment(timestamp: pa.Scalar) -> str:
    """As text by Arrow: a time of year 1 or 9999 may in UTC be one that Python has not."""
    return str(timestamp.cast(pa.string()).as_py()).removesuffix(".000000")


def _true(mask: pa.Array) -> Iterable[int]:
    """Indices where a mask holds; nulls do not."""
    if not pc.any(mask).as_py():
        return ()
    return [int(index) for index in pc.indices_nonzero(mask).to_pylist()]


def _reason(value: bytes, error: Exception) -> str:
    """What is wrong with a message that is no event of this contract, in words."""
    if not value:
        return "empty message"
    if isinstance(error, UnicodeDecodeError):
        return _bad_byte(value)
    if isinstance(error, RecursionError):
        return "not an event: nested too deep"
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        return text.replace(" - at `$.", " at `").replace("`$`", "the message")
    return f"not JSON: {text}"


def _bad_byte(value: bytes) -> str:
    """The first byte that is not UTF-8; msgspec counts from the start of a string, not of the message."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start} is 0x{value[error.start]:02x}"
    return "not UTF-8"


def _line(reason: str) -> str:
    """A reason as one readable line that its column can hold."""
    text = cards.mask_text(reason.replace("\x00", "\\x00"))
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 4]} ..."


def payload_text(value: bytes) -> str:
    """A dead letter's payload as text. Bad bytes are escaped; what is over 1 MB is cut, the archive has all."""
    return cards.mask_message(value[:MAX_PAYLOAD]).decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
