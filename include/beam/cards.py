"""Card numbers never reach the store: in texts and rejected messages all but the last four digits are masked, and an
event with one in an identifier is rejected, because an identifier that is altered is another one.

A card number is 13 to 19 digits, perhaps in groups, with an issuer's first digit and Luhn's check digit (ISO/IEC 7812).
Of other numbers that look so one in ten passes. No event is lost for that: in an identifier only the lengths and first
digits that the large issuers use today count, in a number that stands alone, unlike the digits of s-4111111111111111.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

SHORTEST = 13
_RUN = re.compile(rb"(?<![0-9*])(?<![0-9]\.)[0-9](?:[ -]?[0-9]){12,}")
_GROUP = re.compile(rb"[0-9]+")
_GROUPS = 7  # of one number at most; more make the search in a megabyte of digits a matter of seconds
_ESCAPED = re.compile(rb"\\u00(20|2[dD]|3[0-9])")
_ALONE = re.compile(
    r"(?<![\w.-])([0-9]{14,19}|[0-9]{4}([ -])[0-9]{4}\2[0-9]{4}\2[0-9]{4}|[0-9]{4}([ -])[0-9]{6}\3[0-9]{5})(?![\w-])"
)
_ADJOINS = np.array([chr(code).isalnum() or chr(code) in "_.-" for code in range(128)] + [False] * 128)
_ISSUED = re.compile(
    "4[0-9]{15}(?:[0-9]{3})?"  # Visa; its numbers of 13 digits are of the past
    "|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    "|3[47][0-9]{13}"  # American Express
    "|3(?:0[0-5]|[689][0-9])[0-9]{11}"  # Diners Club
    "|(?:6011|64[4-9][0-9]|65[0-9]{2}|35(?:2[89]|[3-8][0-9]))[0-9]{12}"  # Discover, JCB
)


def suspects(texts: pa.Array, *, are_identifiers: bool) -> list[int]:
    """Rows of a text or binary array that may hold a card number: from a first digit on 13 characters are digits or
    signs; in identifiers it begins alone too. Looks at all texts at once: a regular expression costs five times as
    much."""
    _, ends, data = texts.buffers()
    if data is None or not len(texts):
        return []
    bounds = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if np.diff(bounds).max() < SHORTEST:
        return []
    chars = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]
    run = chars - 32 < 26  # space to 9, thus more than it must be; unsigned, so what is below wraps round
    for step in (1, 2, 4, 5):  # runs of 2, 4, 8, 13
        run = run[:-step] & run[step:]
    at = np.flatnonzero(run & (chars[: len(run)] - 50 < 5)) + bounds[0]
    rows = np.searchsorted(bounds, at, "right") - 1
    holds = at + SHORTEST <= bounds[rows + 1]
    if are_identifiers:
        holds &= (at == bounds[rows]) | ~_ADJOINS[chars[at - 1 - bounds[0]]]
    return np.unique(rows[holds]).tolist()  # type: ignore[no-any-return]


def mask(value: bytes) -> bytes:
    """The same bytes, equally long, with the digits of card numbers as `*` but for the last four."""
    return _RUN.sub(_masked, value)


def mask_text(value: str) -> str:
    """mask() of a text."""
    return mask(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def mask_message(value: bytes) -> bytes:
    """mask() of a JSON message; a number in it may be written with escapes (\\u0034)."""
    plain = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), value)
    masked = mask(plain)
    return value if masked == plain else masked


def is_in_identifier(value: str) -> bool:
    """Whether an identifier is a card number, or has one as a part that no letter, digit, `-`, `_` adjoins."""
    numbers = (match[1].replace(" ", "").replace("-", "") for match in _ALONE.finditer(value))
    return any(_ISSUED.fullmatch(number) and _passes_luhn(list(map(int, number))) for number in numbers)


def _masked(match: re.Match[bytes]) -> bytes:
    """A run of digits in groups, without the numbers that some of its groups together are."""
    found = match[0]
    groups = [group.span() for group in _GROUP.finditer(found)]
    masked = bytearray(found)
    at = 0
    while at < len(groups):
        count = _groups_of_number(found, groups, at)
        if count:
            begin, end = groups[at][0], groups[at + count - 1][1]
            hidden = sum(stop - start for start, stop in groups[at : at + count]) - 4
            for place in range(begin, end):
                if hidden and 48 <= found[place] <= 57:
                    masked[place] = 42
                    hidden -= 1
        at += count or 1
    return bytes(masked)


def _groups_of_number(found: bytes, groups: list[tuple[int, int]], at: int) -> int:
    """How many groups from this one on are a card number, at most; 0 when none are."""
    if not 50 <= found[groups[at][0]] <= 54:
        return 0
    most = len(groups) if len(found) < 38 else _GROUPS  # 19 digits, each a group of its own
    digits: list[int] = []
    longest = 0
    for count, (start, stop) in enumerate(groups[at : at + most], 1):
        if len(digits) + stop - start > 19:
            break
        digits += [byte - 48 for byte in found[start:stop]]
        if len(digits) >= SHORTEST and _passes_luhn(digits):
            longest = count
    return longest


def _passes_luhn(digits: list[int]) -> bool:
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
