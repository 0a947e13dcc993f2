"""Rules by which dead letters are mended: one module each, named as the rule, and kept as long as the archive.

A rule has TOPICS (of which it may mend messages), REASON (a regular expression that the dead letter's reason must
match) and `fix(topic: str, value: bytes) -> bytes | None`: the message as it should have been, None where the rule
cannot say. It sees the raw bytes as they arrived, and gives the same answer every time: a replay applies it again.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


class NoRule(LookupError):
    """There is no rule of this name; the known ones are named."""


@dataclass(frozen=True)
class Rule:
    """A rule, its page (the module's docstring) and what it may mend."""

    name: str
    page: str
    topics: tuple[str, ...]
    reason: re.Pattern[str]
    fix: Callable[[str, bytes], bytes | None]


def names() -> list[str]:
    """All rules."""
    found = (file.name for file in files(__package__).iterdir())
    return sorted(name.removesuffix(".py") for name in found if name.endswith(".py") and name != "__init__.py")


@cache
def rule(name: str) -> Rule:
    """The rule of a name. Raises NoRule."""
    if name not in names():
        raise NoRule(f"there is no rule {name!r} in include/fixes: {', '.join(names()) or 'it is empty'}")
    module = importlib.import_module(f"{__package__}.{name}")
    return Rule(name, (module.__doc__ or "").strip(), tuple(module.TOPICS), re.compile(module.REASON), module.fix)
