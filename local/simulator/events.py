"""What the market gives: events ready to send, with what only the account may know about them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]

TOPICS = (
    "web.interactions",
    "mobile.interactions",
    "sales.orders",
    "inventory.movements",
    "iot.readings",
    "support.tickets",
    "catalog.products",
    "crm.customers",
)
WEB, MOBILE, ORDERS, STOCK, IOT, TICKETS, PRODUCTS, CUSTOMERS = range(8)

# What was done to a message. skewed: the sender's clock is wrong by less than the contract's 300 s; skewed_beyond: by
# years, so that it is a dead letter whenever it is sent.
KINDS = (
    "normal",
    "late",
    "duplicate",
    "skewed",
    "skewed_beyond",
    "malformed:cut",
    "malformed:wrong_type",
    "malformed:unknown_enum",
    "malformed:bad_encoding",
    "malformed:huge",
)
NORMAL, LATE, DUPLICATE, SKEWED, BEYOND, CUT, WRONG_TYPE, UNKNOWN_ENUM, BAD_ENCODING, HUGE = range(10)

# What the sender is up to, for those who test how fraud and broken sensors are found.
LABELS = ("", "stolen_card", "refund_abuse", "bot", "sensor_drift", "sensor_stuck")
HONEST, STOLEN_CARD, REFUND_ABUSE, BOT, DRIFT, STUCK = range(6)


@dataclass(frozen=True)
class Events:
    """Events in columns of one length. send_ms, event_ms: POSIX milliseconds of sending and of `event_ts` as sent;
    topic, kind, label: indices into TOPICS, KINDS, LABELS."""

    send_ms: Numbers
    event_ms: Numbers
    topic: Numbers
    kind: Numbers
    label: Numbers
    ids: list[str]
    keys: list[bytes]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, order: Numbers) -> Events:
        """The events at these positions, in this order."""
        at = order.tolist()
        ids, keys, values = self.ids, self.keys, self.values
        return Events(
            self.send_ms[order],
            self.event_ms[order],
            self.topic[order],
            self.kind[order],
            self.label[order],
            [ids[i] for i in at],
            [keys[i] for i in at],
            [values[i] for i in at],
        )


def concat(parts: Sequence[Events]) -> Events:
    """All parts in the order of sending; what is sent at the same time keeps the parts' order."""
    if not parts:
        none = np.zeros(0, np.int64)
        return Events(none, none, none, none, none, [], [], [])
    whole = Events(
        np.concatenate([part.send_ms for part in parts]),
        np.concatenate([part.event_ms for part in parts]),
        np.concatenate([part.topic for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.label for part in parts]),
        list(chain.from_iterable(part.ids for part in parts)),
        list(chain.from_iterable(part.keys for part in parts)),
        list(chain.from_iterable(part.values for part in parts)),
    )
    return whole.take(np.argsort(whole.send_ms, kind="stable"))


@dataclass(slots=True)
class Event:
    """One event of the rare topics, before faults. body: its fields after event_ts, as JSON text without braces."""

    topic: int
    event_ms: int
    event_id: str
    key: str
    body: str
    label: int = HONEST
    late_ms: int = 0


def body(fields: dict[str, Any]) -> str:
    """JSON members without braces; what is None is left out."""
    text = json.dumps({k: v for k, v in fields.items() if v is not None}, ensure_ascii=False, separators=(",", ":"))
    return text[1:-1]


def instants(milliseconds: Numbers) -> list[str]:
    """ISO 8601 with milliseconds, without zone, as the platform's contracts take it with a Z."""
    texts: list[str] = np.datetime_as_string(milliseconds.astype("datetime64[ms]")).tolist()
    return texts


def draws(*key: object) -> np.random.Generator:
    """Random numbers that depend on the key alone: texts and whole numbers."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) & (2**63 - 1) for part in key]  # type: ignore[call-overload]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def mix(numbers: Numbers, salt: int) -> Numbers:
    """A bijection of 64-bit numbers that looks random (splitmix64), another one for each salt."""
    z = numbers.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Numbers = z ^ (z >> np.uint64(31))
    return mixed
