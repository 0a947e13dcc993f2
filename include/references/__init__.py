"""Reference tables that pipelines look values up in: one CSV file each, its first column the key.

A plan pins the very bytes: they are copied into the store under a name made from their content, so that a slice that is
computed again years later finds what it found at first.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import pyarrow as pa
import pyarrow.compute as pc

from include import storage

REFERENCES = ("country",)


class Reference:
    """One reference table. `rows`: lists of text, the first the names of the columns; an empty text is null."""

    def __init__(self, rows: list[list[str]]) -> None:
        head, *body = rows
        self._keys = pa.array([row[0] for row in body], pa.string())
        self._columns = {name: pa.array([row[at] or None for row in body], pa.string()) for at, name in enumerate(head)}

    def values(self, keys: pa.Array, column: str) -> pa.Array:
        """The column's value for each key; null where the table has no such key."""
        return self._columns[column].take(pc.index_in(keys, self._keys))


def columns_of(name: str) -> list[str]:
    """The columns of a reference table, its key first."""
    return _rows(_content(name))[0]


@cache
def mapping(name: str, column: str) -> Mapping[str, str]:
    """Key -> the column's value, of the table as it is now; keys without a value are left out."""
    head, *body = _rows(_content(name))
    at = head.index(column)
    return {row[0]: row[at] for row in body if row[at]}


def pin(store: str, names: tuple[str, ...] = REFERENCES) -> dict[str, str]:
    """Copies the tables into the store, once per content; returns {name: URI}."""
    pinned = {}
    for name in names:
        content = _content(name)
        uri = storage.join(store, "references", f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.csv")
        if not storage.exists(uri):
            storage.write_whole(uri, lambda sink, content=content: sink.write(content))  # type: ignore[misc]
        pinned[name] = uri
    return pinned


@cache
def read(uri: str) -> Reference:
    """A pinned table. Raises FileNotFoundError naming the URI."""
    return Reference(_rows(storage.read_bytes(uri)))


def _content(name: str) -> bytes:
    return files("include.references").joinpath(f"{name}.csv").read_bytes()


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode())))
