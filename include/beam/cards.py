"""Card numbers never reach the store: in a free text or a rejected message all but the last four digits are masked.

A card number is 13 to 19 digits, perhaps in groups, with an issuer's first digit and Luhn's check digit (ISO/IEC 7812).
"""

from __future__ import annotations

import re

_CANDIDATE = re.compile(rb"(?<![0-9.])[2-6](?:[ -]?[0-9]){12,18}(?![0-9])")
# What a text column is searched with before its values are looked at one by one (RE2).
PATTERN = r"[2-6]([ -]?[0-9]){12}"


def mask(value: bytes) -> bytes:
    """The same bytes, equally long, with the digits of card numbers as `*` but for the last four."""
    return _CANDIDATE.sub(_masked, value)


def mask_text(value: str) -> str:
    """mask() of a text."""
    return mask(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _masked(match: re.Match[bytes]) -> bytes:
    found = match[0]
    digits = [byte - 48 for byte in found if 48 <= byte <= 57]
    if not _passes_luhn(digits):
        return found
    hidden = len(digits) - 4
    masked = bytearray(found)
    for at, byte in enumerate(found):
        if 48 <= byte <= 57 and hidden:
            masked[at] = 42
            hidden -= 1
    return bytes(masked)


def _passes_luhn(digits: list[int]) -> bool:
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
