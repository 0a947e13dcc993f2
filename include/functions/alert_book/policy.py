"""include/alerts.yaml: who is told of an alert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from include.alerts import Alert

FILE = Path(__file__).parents[2] / "alerts.yaml"
Notifier = Literal["file", "mail", "slack"]


class Tell(Struct, frozen=True, forbid_unknown_fields=True):
    to: list[Notifier]
    kind: str | list[str] = []
    severity: str | list[str] = []


class Quiet(Struct, frozen=True, forbid_unknown_fields=True):
    """between: UTC, may pass midnight; more_than alerts of the kind within_s seconds."""

    to: list[Notifier]
    kind: str | list[str] = []
    severity: str | list[str] = []
    between: tuple[str, str] | None = None
    more_than: Annotated[int, Meta(ge=1)] | None = None
    within_s: Annotated[int, Meta(ge=1)] = 600


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    tell: list[Tell]
    quiet: list[Quiet] = []

    def told(self, alert: Alert, now: datetime, recently: Callable[[str, int], int]) -> list[Notifier]:
        """Who is told, in the file's order. recently: a notifier and seconds -> alerts of the kind that it has told."""
        rule = next((rule for rule in self.tell if _fits(rule, alert)), None)
        return [to for to in rule.to if not self._is_quiet(to, alert, now, recently)] if rule else []

    def _is_quiet(self, to: Notifier, alert: Alert, now: datetime, recently: Callable[[str, int], int]) -> bool:
        for rule in self.quiet:
            if to not in rule.to or not _fits(rule, alert):
                continue
            if rule.between is not None and not _is_between(now.time(), *map(time.fromisoformat, rule.between)):
                continue
            if rule.more_than is not None and recently(to, rule.within_s) < rule.more_than:
                continue
            return True
        return False


@cache
def read(file: Path = FILE) -> Policy:
    """Raises ValueError that names the file and what is wrong in it."""
    try:
        policy = msgspec.convert(yaml.safe_load(file.read_text()), Policy)
        for rule in policy.quiet:
            _ = [time.fromisoformat(text) for text in rule.between or ()]
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None
    return policy


def _fits(rule: Tell | Quiet, alert: Alert) -> bool:
    return _has(rule.kind, alert.kind) and _has(rule.severity, alert.severity)


def _has(wanted: Any, value: str) -> bool:
    return not wanted or value in ([wanted] if isinstance(wanted, str) else wanted)


def _is_between(now: time, start: time, end: time) -> bool:
    return start <= now < end if start <= end else now >= start or now < end
