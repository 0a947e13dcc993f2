"""The simulator's account beside what is in the topics."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from local.simulator.events import TOPICS
from tests.simulator.contracts import setting
from tests.stand_ins import Broker, records

# Values that the simulator puts in where a wrong type or an unknown word is wanted.
_SPOILED = re.compile(rb'"many"|"maybe"|"event_ts":\[1\]|"ticket_id":17|unheard-of')


@dataclass(frozen=True, order=True)
class Row:
    """A message: of the account with its kind, of a topic without. The id is "" where the message is malformed."""

    topic: str
    partition: int
    event_id: str
    kind: str = field(default="", compare=False)


def create_topics(broker: Broker) -> str:
    """The market's topics under a prefix of their own, as their contracts say; returns the prefix."""
    prefix = f"t{uuid.uuid4().hex[:6]}."
    config = {"message.timestamp.type": "LogAppendTime"}
    topics = [NewTopic(f"{prefix}{topic}", setting(topic, "partitions"), 1, config=config) for topic in TOPICS]
    for created in broker.admin.create_topics(topics).values():
        created.result()
    broker.wait_for_leaders(*(topic.topic for topic in topics))
    return prefix


def account(folder: Path) -> list[Row]:
    """What the simulator says it has sent, sorted."""
    if not list(folder.glob("*.parquet")):
        return []
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select topic, partition, case when kind like 'malformed:%' then '' else event_id end, kind "
            "from read_parquet(?)",
            [f"{folder}/*.parquet"],
        ).fetchall()
    return sorted(Row(*row) for row in rows)


def contents(broker: Broker, prefix: str) -> list[Row]:
    """What is in the topics, sorted."""
    messages = records(broker.bootstrap, *(f"{prefix}{topic}" for topic in TOPICS))
    return sorted(Row(m.topic() or "", m.partition() or 0, _event_id(m.value() or b"")) for m in messages)


def _event_id(value: bytes) -> str:
    """The id of a message that is not malformed."""
    try:
        event_id = str(json.loads(value.decode())["event_id"])
    except ValueError:
        return ""
    return "" if len(event_id) > 64 or _SPOILED.search(value) else event_id
