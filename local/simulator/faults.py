"""What goes wrong on the way: late, doubled, malformed messages and wrong clocks. docs/data.md has the shares."""

from __future__ import annotations

import re

import numpy as np

from local.simulator.events import (
    BAD_ENCODING,
    BEYOND,
    CUSTOMERS,
    CUT,
    HUGE,
    IOT,
    MOBILE,
    NORMAL,
    ORDERS,
    PRODUCTS,
    SKEWED,
    STOCK,
    TICKETS,
    UNKNOWN_ENUM,
    WEB,
    WRONG_TYPE,
    Numbers,
)

LATE_SHARE, TWICE, MALFORMED = 0.03, 0.01, 0.005
SKEWED_SHARE, BEYOND_SHARE = 0.004, 0.001
LATE_AFTER_MS = 60_000  # what arrives later than this is late to the stream
HUGE_BYTES = 990_000  # with key and headers just under what a broker takes by default
LATEST_MIN = 1_800.0  # by which an event is late at most
AGAIN_MS = 3_600_000  # after which a second copy comes at most
YEAR_MS = 365 * 86_400_000

# Of ten malformed messages; a huge one in 500, because each weighs as much as 3,000 others.
_MALFORMED = (
    CUT,
    CUT,
    CUT,
    WRONG_TYPE,
    WRONG_TYPE,
    UNKNOWN_ENUM,
    UNKNOWN_ENUM,
    UNKNOWN_ENUM,
    BAD_ENCODING,
    BAD_ENCODING,
)
_HUGE_ONE_IN = 500

_NUMBERS = {
    WEB: rb'("event_ts":)"[^"]*"',
    MOBILE: rb'("event_ts":)"[^"]*"',
    ORDERS: rb'("quantity":)-?\d+',
    STOCK: rb'("quantity":)-?\d+',
    IOT: rb'("reading":)-?[\d.]+',
    TICKETS: rb'("ticket_id":)"[^"]*"',
    PRODUCTS: rb'("list_price":)[\d.]+',
    CUSTOMERS: rb'("accepts_marketing":)\w+',
}
_WRONG = dict.fromkeys((WEB, MOBILE), b"[1]") | {TICKETS: b"17", CUSTOMERS: b'"maybe"'}
_ENUMS = {
    WEB: b"device",
    MOBILE: b"device",
    ORDERS: b"order_type",
    STOCK: b"movement_type",
    IOT: b"sensor_type",
    TICKETS: b"reason",
    PRODUCTS: b"change_type",
    CUSTOMERS: b"loyalty_tier",
}


def delays(random: np.random.Generator, count: int, pace: float) -> Numbers:
    """Milliseconds by which late events are late: mostly minutes, some hours, a few more than a day."""
    u, v = random.random(count), random.random(count)
    longest = np.where(u < 0.7, 40.0, np.where(u < 0.95, 300.0, LATEST_MIN)) * 60_000 * pace
    late: Numbers = (LATE_AFTER_MS + 1_000 + v * longest).astype(np.int64)
    return late


def reach_ms(pace: float) -> int:
    """The longest time from a server's event to the last message about it."""
    return int(2 * LATE_AFTER_MS + LATEST_MIN * 60_000 * pace + AGAIN_MS * pace)


def clocks(u: Numbers, v: Numbers) -> tuple[Numbers, Numbers]:
    """(kind, milliseconds to add to event_ts) of senders: nearly all right, some minutes off, a few years. u, v: two
    numbers in [0, 1) a sender."""
    kind = np.where(u < BEYOND_SHARE, BEYOND, np.where(u < BEYOND_SHARE + SKEWED_SHARE, SKEWED, NORMAL)).astype(np.int8)
    minutes = ((v * 2 - 1) * 240_000).astype(np.int64)
    years = ((1.1 + v * 3) * YEAR_MS).astype(np.int64)
    return kind, np.where(kind == SKEWED, minutes, np.where(kind == BEYOND, years, 0))


def strike(random: np.random.Generator, kind: Numbers, span_ms: int) -> tuple[Numbers, Numbers, Numbers]:
    """Event by event: (kinds with the malformed ones, positions of those sent twice, by how many ms the second is
    later). One second copy in ten comes up to span_ms later, the others within 5 s."""
    u = random.random(len(kind))
    spoiled = u < MALFORMED
    which = np.array(_MALFORMED, np.int8)[random.integers(0, len(_MALFORMED), len(kind))]
    which[random.random(len(kind)) < 1 / _HUGE_ONE_IN] = HUGE
    twice = np.flatnonzero((u > 1 - TWICE) & (kind != BEYOND))
    lag = np.where(
        random.random(len(twice)) < 0.1, random.random(len(twice)) * span_ms, random.random(len(twice)) * 5_000
    )
    return np.where(spoiled, which, kind).astype(np.int8), twice, lag.astype(np.int64) + 1


def spoil(kind: int, topic: int, value: bytes) -> bytes:
    """The message as a malformed one of this kind; others come back as they are."""
    if kind == CUT:
        # Never between members alone: what is left has no closing brace in any case.
        return value[: 20 + len(value) * (len(value) % 7) // 10]
    if kind == WRONG_TYPE:
        return re.sub(_NUMBERS[topic], rb"\g<1>" + _WRONG.get(topic, b'"many"'), value, count=1)
    if kind == UNKNOWN_ENUM:
        return re.sub(rb'("%b":")[^"]*' % _ENUMS[topic], rb"\g<1>unheard-of", value, count=1)
    if kind == BAD_ENCODING:
        return value.replace(b'"event_id":"', b'"event_id":"\xff\xfe', 1)
    if kind == HUGE:
        return value.replace(b'"event_id":"', b'"event_id":"' + b"x" * (HUGE_BYTES - len(value)), 1)
    return value


def spoil_all(kinds: Numbers, topics: Numbers, values: list[bytes]) -> None:
    """spoil() in place, where there is something to spoil."""
    for at in np.flatnonzero(kinds >= CUT).tolist():
        values[at] = spoil(int(kinds[at]), int(topics[at]), values[at])
