"""The collector's settings, all environment variables. docs/settings.md lists them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

MAX_BODY_BYTES = 900_000  # uncompressed; an event of this size still fits a Kafka message
MAX_EVENTS = 1_000  # a request

T = TypeVar("T")


class Sender(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may send: its key, and the topics that the key is for."""

    key: Annotated[str, Meta(min_length=16)]
    topics: Annotated[tuple[str, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class Settings:
    """kafka: librdkafka's connection settings. senders: by name. spool: folder. wait_s: how long a request waits for
    Kafka before its events go to the spool. rate: events a second that one sender may send on average."""

    kafka: dict[str, Any]
    senders: dict[str, Sender]
    spool: Path
    spool_bytes: int
    origins: frozenset[str]
    wait_s: float
    rate: float


class SettingsError(ValueError):
    """A setting that is missing or unusable: which, and what it should be."""


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process. Raises SettingsError; it never quotes a key."""
    kafka = _json(environment, "KAFKA", dict[str, Any], '{"bootstrap.servers": "host:9092"}')
    if "bootstrap.servers" not in kafka:
        raise SettingsError('MADHATTER_COLLECTOR_KAFKA needs "bootstrap.servers"')
    senders = _json(environment, "KEYS", dict[str, Sender], '{"shop": {"key": "...", "topics": ["web.interactions"]}}')
    return Settings(
        kafka=kafka,
        senders=senders,
        spool=Path(_required(environment, "SPOOL", "a folder on a disk that outlives the process")),
        spool_bytes=int(_number(environment, "SPOOL_BYTES", 256 << 20, at_least=64 << 10)),
        origins=frozenset(environment.get("MADHATTER_COLLECTOR_ORIGINS", "").replace(",", " ").split()),
        wait_s=_number(environment, "WAIT_S", 5, at_least=0.1),
        rate=_number(environment, "EVENTS_PER_S", 5_000, at_least=1),
    )


def _required(environment: Mapping[str, str], name: str, what: str) -> str:
    value = environment.get(f"MADHATTER_COLLECTOR_{name}", "")
    if not value:
        raise SettingsError(f"MADHATTER_COLLECTOR_{name} is not set: give {what}")
    return value


def _json(environment: Mapping[str, str], name: str, shape: type[T], example: str) -> T:
    text = _required(environment, name, f"JSON such as {example}")
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.DecodeError as error:
        raise SettingsError(f"MADHATTER_COLLECTOR_{name} is not JSON such as {example}: {error}") from None


def _number(environment: Mapping[str, str], name: str, default: float, at_least: float) -> float:
    text = environment.get(f"MADHATTER_COLLECTOR_{name}") or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not value >= at_least:
        raise SettingsError(f"MADHATTER_COLLECTOR_{name}={text}: give a number, {at_least:g} or more")
    return value
