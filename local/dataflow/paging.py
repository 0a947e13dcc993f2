"""Pages of a list."""

from __future__ import annotations

from typing import TypeVar

from local.dataflow.errors import ApiError

PAGE_SIZE = 100
T = TypeVar("T")


def page(items: list[T], size: int, token: str) -> tuple[list[T], str]:
    """One page of items and the next page's token ("" at the end). size 0: the service's choice. Raises ApiError."""
    if token and not token.isdecimal():
        raise ApiError("INVALID_ARGUMENT", f"Invalid page token {token!r}: take nextPageToken of the page before")
    first = int(token or 0)
    past = first + (size if 0 < size < PAGE_SIZE else PAGE_SIZE)
    return items[first:past], str(past) if past < len(items) else ""
