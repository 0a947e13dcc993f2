"""Values that the connector binds with `?`: from the wire's strings to Python."""

from __future__ import annotations

import binascii
import datetime as dt
from decimal import Decimal
from typing import Any

_EPOCH = dt.datetime(1970, 1, 1)


def parameters(bindings: dict[str, dict[str, Any]] | None) -> tuple[list[Any] | None, list[list[Any]] | None]:
    """(values, None) for one row; (None, rows) for an array binding (executemany); (None, None) without bindings."""
    if not bindings:
        return None, None
    columns = [bindings[str(position)] for position in range(1, len(bindings) + 1)]
    if any(isinstance(c["value"], list) for c in columns):
        return None, [list(row) for row in zip(*([_value(c["type"], v) for v in c["value"]] for c in columns))]
    return [_value(c["type"], c["value"]) for c in columns], None


def _value(kind: str, text: str | None) -> Any:
    if text is None:
        return None
    match kind:
        case "FIXED":
            number = Decimal(text)
            return int(number) if number == number.to_integral_value() and "." not in text else number
        case "REAL":
            return float(text)
        case "BOOLEAN":
            return str(text).lower() == "true"
        case "BINARY":
            return binascii.unhexlify(text)
        case "DATE":  # milliseconds since 1970
            return (_EPOCH + dt.timedelta(milliseconds=int(text))).date()
        case "TIME":  # nanoseconds since midnight
            return (_EPOCH + dt.timedelta(microseconds=int(text) // 1000)).time()
        case "TIMESTAMP_NTZ":  # nanoseconds since 1970
            return _EPOCH + dt.timedelta(microseconds=int(text) // 1000)
        case "TIMESTAMP_LTZ" | "TIMESTAMP_TZ":  # the same, and perhaps minutes east of UTC plus 1440
            nanoseconds = int(text.split(" ")[0])
            return (_EPOCH + dt.timedelta(microseconds=nanoseconds // 1000)).replace(tzinfo=dt.UTC)
        case _:
            return text
