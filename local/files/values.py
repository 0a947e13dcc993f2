"""Turns a cell into a value of the kind that the contract asks for: text, numbers and times as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

TRUE = {"true", "t", "yes", "y", "1"}
FALSE = {"false", "f", "no", "n", "0"}
SPACES = str.maketrans(dict.fromkeys("\u00a0\u202f\u2009", " "))  # no-break, narrow no-break and thin space


class Numbers(Struct, frozen=True, forbid_unknown_fields=True):
    """How numbers are written. thousands: what groups three digits; strip: words and signs around a number."""

    decimal: str = "."
    thousands: str = ""
    strip: tuple[str, ...] = ()


class Dates(Struct, frozen=True, forbid_unknown_fields=True):
    """How times are written. zone: of times that name none. formats: Python's, or iso, epoch_s, epoch_ms; the first
    that fits."""

    zone: str
    formats: tuple[str, ...] = ("iso",)


class Unreadable(ValueError):
    """A cell that is no value of its kind: why."""


def text(cell: Any, null_words: Collection[str]) -> str | None:
    """The cell as text without spaces around it; None where it is empty or one of the null words."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # an id in a column that has empty cells is often read as a float
    found = str(cell).strip()
    if not found.isascii():
        try:
            found.encode()
        except UnicodeEncodeError:
            raise Unreadable("has bytes that the file's encoding does not know") from None
    return None if not found or found in null_words else found


def number(cell: Any, form: Numbers) -> Decimal:
    """The number exactly as written; a float of a Parquet file as its shortest decimal."""
    if isinstance(cell, Decimal):
        return cell
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return Decimal(repr(cell))
    found = str(cell).translate(SPACES)
    for word in form.strip:
        found = found.replace(word, "")
    found = found.strip()
    if found.endswith("-"):
        found = f"-{found[:-1]}"
    if not _number(form).fullmatch(found):
        grouped = f", thousands {form.thousands!r}" if form.thousands else ""
        raise Unreadable(f"is no number (decimal {form.decimal!r}{grouped})")
    if form.thousands:
        found = found.replace(form.thousands.translate(SPACES), "")
    return Decimal(found.replace(" ", "").replace(form.decimal, "."))


@cache
def _number(form: Numbers) -> re.Pattern[str]:
    """Strict: with a decimal comma `1.23` is an error and not 123."""
    thousands, decimal = re.escape(form.thousands.translate(SPACES)), re.escape(form.decimal)
    whole = rf"(?:\d{{1,3}}(?:{thousands}\d{{3}})+|\d+)" if thousands else r"\d+"
    return re.compile(rf"[+-]? ?(?:{whole}(?:{decimal}\d*)?|{decimal}\d+)", re.ASCII)


def integer(cell: Any, form: Numbers) -> int:
    """A whole number; `6,00` is one."""
    found = number(cell, form)
    if found != found.to_integral_value():
        raise Unreadable("is no whole number")
    return int(found)


def boolean(cell: Any) -> bool:
    """True or False; other languages need `words`."""
    found = str(cell).casefold()
    if found not in TRUE | FALSE:
        raise Unreadable("is neither true nor false")
    return found in TRUE


def timestamp(cell: Any, form: Dates) -> str:
    """The time in UTC, as RFC 3339."""
    found = _time(cell, form)
    if found.tzinfo is None:
        local = found.replace(tzinfo=zone(form.zone))
        found = local.astimezone(UTC)
        if found.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
            raise Unreadable(f"does not exist in {form.zone}: the clock was put forward")
    return found.astimezone(UTC).isoformat().replace("+00:00", "Z")


def day(cell: Any, form: Dates) -> str:
    """The date, as RFC 3339."""
    return (cell if type(cell) is date else _time(cell, form).date()).isoformat()


@cache
def zone(name: str) -> ZoneInfo:
    """Raises KeyError or ValueError when there is no such zone."""
    return ZoneInfo(name)


def _time(cell: Any, form: Dates) -> datetime:
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day)
    for one in form.formats:
        try:
            if one == "iso":
                return datetime.fromisoformat(str(cell))
            if one in ("epoch_s", "epoch_ms"):
                return datetime.fromtimestamp(float(cell) / (1000 if one == "epoch_ms" else 1), UTC)
            return datetime.strptime(str(cell), one)
        except (ValueError, OverflowError, OSError):
            continue
    raise Unreadable(f"is no time in any of the formats {', '.join(form.formats)}")
