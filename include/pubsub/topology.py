"""topology.yaml, read and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

FILE = Path(__file__).with_name("topology.yaml")
DAYS = re.compile(r"([1-9]|[12][0-9]|3[01]) days?")  # Pub/Sub keeps a message for 31 days at most
DEAD = "dead."
T = TypeVar("T")


class Subscription(Struct, frozen=True, forbid_unknown_fields=True):
    """topic: of the same file. push: the function that is called, or pull: who asks. deadline_s: seconds that the taker
    has. attempts: deliveries, after which the message is a dead letter."""

    topic: str
    deadline_s: Annotated[int, Meta(ge=10, le=600)]
    attempts: Annotated[int, Meta(ge=5, le=100)]
    push: str | None = None
    pull: str | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    topics: dict[str, Any]
    subscriptions: dict[str, Any]


@dataclass(frozen=True)
class Topology:
    """topics: name -> days for which its messages are kept until they are taken. subscriptions: by name."""

    topics: dict[str, int]
    subscriptions: dict[str, Subscription]

    @property
    def functions(self) -> list[str]:
        """The functions that are pushed to."""
        return sorted({one.push for one in self.subscriptions.values() if one.push})


def dead_letters(subscription: str) -> str:
    """The topic of a subscription's dead letters, and the name of the subscription that keeps them."""
    return f"{DEAD}{subscription}"


def read(file: Path = FILE) -> Topology:
    """The topology. Raises ValueError that names file, line and key of what is wrong."""
    text = file.read_text()
    try:
        known = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
        whole = _converted(yaml.safe_load(text), _File, f"{file}")
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: {error}") from error

    def at(*keys: str) -> str:
        return f"{file}, line {known.get(keys, 1)}: {'.'.join(keys)}"

    topics: dict[str, int] = {}
    for name, kept in whole.topics.items():
        if not (found := DAYS.fullmatch(f"{kept}")):
            raise ValueError(f"{at('topics', name)}: {kept!r} is no time to keep messages: '1 day' to '31 days'")
        if name.startswith(DEAD):
            raise ValueError(f"{at('topics', name)}: names that begin with {DEAD} are those of dead letters")
        topics[name] = int(found[1])
    subscriptions: dict[str, Subscription] = {}
    for name, raw in whole.subscriptions.items():
        place = at("subscriptions", name)
        one = _converted(raw, Subscription, place)
        if one.topic not in topics:
            raise ValueError(f"{place}: there is no topic {one.topic!r} in this file; it has {', '.join(topics)}")
        if bool(one.push) == bool(one.pull):
            raise ValueError(f"{place}: give push, the function that is called, or pull, who asks; one of the two")
        subscriptions[name] = one
    return Topology(topics, subscriptions)


def _converted(raw: Any, shape: type[T], place: str) -> T:
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise ValueError(f"{place}: {error}") from None


def _lines(node: yaml.Node | None, *above: str) -> dict[tuple[str, ...], int]:
    """The line of each key, from 1. Raises yaml.YAMLError for a key that stands twice: YAML's reader lets it pass."""
    found: dict[tuple[str, ...], int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        keys = (*above, str(key.value))
        if keys in found:
            raise yaml.MarkedYAMLError(problem=f"{'.'.join(keys)} stands twice", problem_mark=key.start_mark)
        found[keys] = key.start_mark.line + 1
        found |= _lines(value, *keys)
    return found
