"""Prism, Beam's runner for streaming jobs on one machine: one Go program, in <home>/env/prism, of the installed Beam.

MADHATTER_PRISM names another folder to have it in.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

BINARY, RECORD = "prism", "prism.json"


class PrismMissing(RuntimeError):
    """There is no Prism to start, or not the one that was installed; says what to do."""


def home() -> Path:
    """The folder that Prism is in."""
    return Path(os.environ.get("MADHATTER_PRISM") or Path(sys.prefix).parent / "prism")


def wanted() -> str:
    """The version of Prism that belongs to the installed Beam."""
    return version("apache-beam")


def binary(folder: Path | None = None) -> Path:
    """The program, whose bytes are those that were recorded when it was installed. Raises PrismMissing."""
    place = (folder or home()) / BINARY
    cure = f"run `python -m local.prism {place.parent}` (`make up` does it in the background)"
    try:
        record = json.loads((place.parent / RECORD).read_text())
        with place.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise PrismMissing(f"Prism is not in {place.parent} ({error}): {cure}") from None
    if record.get("version") != wanted():
        raise PrismMissing(f"{place} is of Beam {record.get('version')}, installed is {wanted()}: {cure}")
    if record.get("sha256") != found:
        raise PrismMissing(f"{place} is not what was installed, its SHA-256 is {found}: {cure}")
    return place
