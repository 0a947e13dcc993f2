"""The SQL of the platform: statements of a file, parameters as bindings. Who runs them has a connection of its own."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")


@cache
def statements(name: str) -> tuple[str, ...]:
    """The statements of include/sql/`name`. They are separated by a semicolon at a line's end."""
    text = files("include.sql").joinpath(name).read_text()
    parts = re.split(r";[ \t]*(?:\n|\Z)", text)
    return tuple(part.strip() for part in parts if _has_code(part))


def sql_files(folder: str) -> list[str]:
    """The SQL files of a folder of include/sql, by name."""
    found = files("include.sql").joinpath(folder).iterdir()
    return sorted(f"{folder}/{file.name}" for file in found if file.name.endswith(".sql"))


def bound(sql: str) -> str:
    """:name as the connector writes it, %(name)s; a cast such as value::date stays."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


def _has_code(part: str) -> bool:
    return any(line.strip() and not line.strip().startswith("--") for line in part.splitlines())
