"""Reads the rows of a CSV or Parquet file one after the other, whatever the file's size."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Meta, Struct

MAX_CELL = 100_000  # characters; a longer cell is a quote that is never closed
BATCH = 5_000  # rows of a Parquet file in memory


class Format(Struct, frozen=True, forbid_unknown_fields=True):
    """How a file is written. columns: the names, where a CSV file has no header."""

    format: Literal["csv", "parquet"] | None = None
    encoding: str = "utf-8-sig"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Meta(min_length=1, max_length=1)] = '"'
    skip_lines: int = 0
    columns: list[str] | None = None


class FileError(ValueError):
    """A file that cannot be read at all: which, and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """number: the line on which a CSV row begins (a header is line 1), or a Parquet row's number from 1. damage: why
    its cells cannot be told apart; then it has none."""

    number: int
    cells: dict[str, Any]
    damage: str = ""


def read(file: Path, form: Format, needed: Collection[str]) -> Iterator[Row]:
    """The file's rows in their order. needed: columns that must be there. Raises FileError."""
    if not file.is_file():
        raise FileError(f"{file}: there is no such file")
    kind = form.format or {".csv": "csv", ".parquet": "parquet"}.get(file.suffix.lower())
    if kind is None:
        raise FileError(f"{file}: neither .csv nor .parquet; say which it is with `input: {{format: csv}}`")
    return _csv(file, form, needed) if kind == "csv" else _parquet(file, needed)


def _csv(file: Path, form: Format, needed: Collection[str]) -> Iterator[Row]:
    csv.field_size_limit(MAX_CELL)
    try:
        # Bytes that the encoding does not know are kept as surrogates, so that one of them spoils its row only.
        stream = file.open(encoding=form.encoding, errors="surrogateescape", newline="")
    except LookupError:
        raise FileError(f"{file}: there is no encoding {form.encoding!r}") from None
    with stream:
        try:
            for _ in range(form.skip_lines):
                stream.readline()
            reader = csv.reader(stream, delimiter=form.delimiter, quotechar=form.quote)
            header = form.columns or [name.strip() for name in next(reader, [])]
            _check(file, header, needed)
            yield from _cells(reader, header, form.skip_lines)
        except UnicodeError as error:
            raise FileError(f"{file} is not {form.encoding}: {error}") from error


def _cells(reader: Any, header: list[str], skipped: int) -> Iterator[Row]:
    while True:
        number = reader.line_num + skipped + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(number, {}, f"{error}: is a quote never closed? {_lines(reader, number, skipped)}")
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            where = _lines(reader, number, skipped)
            yield Row(number, {}, f"has {len(cells)} columns where the header has {len(header)}{where and '; '}{where}")
        else:
            yield Row(number, dict(zip(header, cells)))


def _lines(reader: Any, number: int, skipped: int) -> str:
    """Which lines went into a damaged row, where it is more than one."""
    last = reader.line_num + skipped
    return f"lines {number} to {last} are in it" if last > number else ""


def _parquet(file: Path, needed: Collection[str]) -> Iterator[Row]:
    try:
        opened = pq.ParquetFile(file, pre_buffer=False)
        _check(file, opened.schema_arrow.names, needed)
        number = 0
        for batch in opened.iter_batches(BATCH, columns=sorted(needed)):
            for cells in batch.to_pylist():
                number += 1
                yield Row(number, cells)
    except pa.ArrowException as error:
        raise FileError(f"{file} is no Parquet file that can be read: {error}") from error


def _check(file: Path, header: list[str], needed: Collection[str]) -> None:
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise FileError(f"{file} has more than one column {', '.join(map(repr, twice))}: name them in `input: columns`")
    if missing := [name for name in needed if name not in header]:
        raise FileError(
            f"{file} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, header)) or 'none'}. "
            "Are delimiter, encoding and skip_lines right?"
        )
