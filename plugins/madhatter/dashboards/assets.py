"""The page's own files, out of the package (Composer's web server has no project folder)."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import PurePosixPath

_TYPES = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}


@cache
def read(name: str) -> bytes:
    """A file's content. Raises FileNotFoundError."""
    return (files(__package__) / "static" / name).read_bytes()


@cache
def digest() -> str:
    """Changes when any file of the page or the Vega bundle does: it is part of their addresses."""
    folder = files(__package__) / "static"
    seen = hashlib.sha256(version("vl-convert-python").encode())
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        seen.update(entry.name.encode() + entry.read_bytes())
    return seen.hexdigest()[:12]


def find(name: str) -> tuple[bytes, str] | None:
    """(content, media type) of a script, style sheet, palette or icon, else None."""
    media_type = _TYPES.get(PurePosixPath(name).suffix)
    if media_type is None or name not in {entry.name for entry in (files(__package__) / "static").iterdir()}:
        return None
    return read(name), media_type
