"""Files by URI: file:///... on a laptop, gs://... in production, through the same calls.

A file is written under a temporary name and renamed, so that a reader sees it whole or not at all.
"""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

# Half the default dictionary page: ids that hardly repeat stop being collected sooner, a fifth less CPU and size.
PARQUET: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "dictionary_pagesize_limit": 1 << 17}


@dataclass(frozen=True)
class Stored:
    """A file below a URI. path: from there on; modified_ts: UTC."""

    path: str
    size_bytes: int
    modified_ts: datetime


def locate(uri: str) -> tuple[Any, str]:
    """The filesystem of a URI and the path in it. Raises ValueError with the URI when it has no usable scheme."""
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{uri!r} is not a storage URI such as file:///data or gs://bucket/data: {error}") from error
    return filesystem, path


def join(uri: str, *parts: str) -> str:
    """A URI below another."""
    return posixpath.join(uri, *parts)


def write_whole(uri: str, write: Callable[[Any], None]) -> int:
    """Writes a file by `write(sink)`, then gives it its name; returns its size in bytes."""
    filesystem, path = locate(uri)
    folder = posixpath.dirname(path)
    filesystem.create_dir(folder, recursive=True)
    # Outside the name's own pattern, so that no reader of *.parquet or *.json can meet it.
    part = posixpath.join(folder, f".{posixpath.basename(path)}.{uuid.uuid4().hex}.part")
    try:
        with filesystem.open_output_stream(part) as sink:
            write(sink)
        size = filesystem.get_file_info(part).size
        filesystem.move(part, path)
    except BaseException as error:
        if filesystem.get_file_info(part).type != fs.FileType.NotFound:
            filesystem.delete_file(part)
        if isinstance(error, OSError):
            raise OSError(f"{uri} cannot be written ({error}): free space there, or move MADHATTER_STORE") from error
        raise
    return int(size)


def write_table(uri: str, table: pa.Table, **options: Any) -> int:
    """Writes a table as zstd Parquet; returns its size in bytes. options: more of pyarrow's."""
    return write_whole(uri, lambda sink: pq.write_table(table, sink, **PARQUET, **options))


def write_json(uri: str, value: Any) -> int:
    """Writes a value as JSON; returns its size in bytes."""
    data = json.dumps(value, indent=1).encode()
    return write_whole(uri, lambda sink: sink.write(data))


def read_bytes(uri: str) -> bytes:
    """A file as it is. Raises FileNotFoundError naming the URI."""
    filesystem, path = locate(uri)
    try:
        with filesystem.open_input_file(path) as source:
            return bytes(source.read())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{uri} does not exist") from error


def read_json(uri: str) -> Any:
    """The value in a JSON file. Raises FileNotFoundError naming the URI."""
    return json.loads(read_bytes(uri))


def exists(uri: str) -> bool:
    """Whether there is a file at a URI."""
    filesystem, path = locate(uri)
    return bool(filesystem.get_file_info(path).type == fs.FileType.File)


def names(uri: str) -> list[str]:
    """The names of the files in a folder; none when there is no such folder."""
    filesystem, path = locate(uri)
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(str(info.base_name) for info in found if info.type == fs.FileType.File)


def remove(uri: str) -> None:
    """Removes a file; none is fine."""
    filesystem, path = locate(uri)
    if exists(uri):
        filesystem.delete_file(path)


def folder_on_disk(uri: str) -> str | None:
    """The path of a folder on this machine's disk, None when it is in a bucket."""
    filesystem, path = locate(uri)
    return str(path) if isinstance(filesystem, fs.LocalFileSystem) else None


def check_reachable(store: str) -> None:
    """Raises OSError when the store's own folder is not there: no lost file, but a mount or bucket out of reach."""
    filesystem, path = locate(store)
    if filesystem.get_file_info(path).type == fs.FileType.NotFound:
        raise OSError(f"the store {store} cannot be reached: mount it, or correct MADHATTER_STORE")


def files(uri: str) -> Iterator[Stored]:
    """All files below a URI, in no order; none when there is nothing."""
    filesystem, path = locate(uri)
    root = path.rstrip("/")
    for found in filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True)):
        if found.type == fs.FileType.File:
            yield Stored(found.path[len(root) + 1 :], found.size, datetime.fromtimestamp(found.mtime_ns / 1e9, UTC))


def remove_below(uri: str, paths: Iterable[str]) -> None:
    """Removes files below a URI, and the folders below it that this leaves empty. What is gone already is fine."""
    filesystem, root = locate(uri)
    folders: set[str] = set()
    for path in paths:
        remove(join(uri, path))
        folders.update(_parents(path))
    for folder in sorted(folders, key=len, reverse=True):
        below = posixpath.join(root, folder)
        if not filesystem.get_file_info(fs.FileSelector(below, allow_not_found=True)) and (
            filesystem.get_file_info(below).type == fs.FileType.Directory
        ):
            filesystem.delete_dir(below)


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
