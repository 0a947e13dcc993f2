"""Kafka as the planner and the sensor see it: topics from contracts, offsets by time, leaders. Metadata only."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import BaseTrigger, TriggerEvent

from madhatter import slices
from madhatter.slices import Claim, PartitionLog, Place

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

CONNECTION = "kafka_default"
TIMEOUT_S = 15.0
_FORK = re.compile(r"log truncation detected .*broker end offset is (\d+)")  # librdkafka's words


class TopicsMissing(RuntimeError):
    """Topics without which a window cannot be read."""


class BrokerDown(ConnectionError):
    """No broker answers."""


def client_settings(conn_id: str = CONNECTION) -> dict[str, Any]:
    """The connection's librdkafka settings."""
    from airflow.sdk import Connection

    return dict(Connection.get(conn_id).extra_dejson)


def admin(settings: dict[str, Any]) -> AdminClient:
    """An admin client; the log level keeps reconnect noise out of task logs."""
    from confluent_kafka.admin import AdminClient

    return AdminClient({"log_level": 3, **settings})


def create_topics(client: AdminClient, topics: Iterable[str], replication: int = 1) -> list[str]:
    """Creates the contracts' topics that are missing; returns their names. Raises KafkaException."""
    from confluent_kafka.admin import NewTopic

    from include.contracts.contract import contract

    known = client.list_topics(timeout=TIMEOUT_S).topics
    new = [
        NewTopic(
            topic,
            num_partitions=contract(topic).partitions,
            replication_factor=replication,
            config={
                # Record time is arrival, set by the broker: slices are cut by it.
                "message.timestamp.type": "LogAppendTime",
                "retention.ms": str(contract(topic).retention_ms),
                "min.insync.replicas": str(max(1, replication - 1)),
            },
        )
        for topic in topics
        if topic not in known
    ]
    for future in client.create_topics(new, operation_timeout=TIMEOUT_S).values() if new else ():
        future.result()
    return [topic.topic for topic in new]


def next_claims(
    settings: dict[str, Any], topics: Iterable[str], until: datetime, claimed: Mapping[Place, Claim]
) -> list[Claim]:
    """The claims of the next slice over the log as it is now. settings: librdkafka's; until: UTC, the window's end with
    its tail; claimed: the newest claim of each partition. Warns of partitions that time does not cut.

    Raises TopicsMissing, BrokerDown, slices.LogError."""
    now = read_log(admin(settings), topics, until)
    for (topic, partition), one in now.items():
        if not one.is_cut_by_time:
            log.warning(
                "%s[%s] has a record stamped %s, %s ahead of this clock: until then its slices end at its last record, "
                "not at their window's end (docs/runbook.md, clock ahead)",
                topic,
                partition,
                f"{datetime.now(UTC) + one.ahead:%Y-%m-%dT%H:%M:%SZ}",
                timedelta(seconds=int(one.ahead.total_seconds())),
            )
    forks = forked_at(settings, _to_compare(now, claimed))
    return slices.claim({place: replace(one, forked_at=forks.get(place)) for place, one in now.items()}, claimed)


def read_log(client: AdminClient, topics: Iterable[str], until: datetime) -> dict[Place, PartitionLog]:
    """State of every partition of the topics. until: UTC, the window's end with its tail.

    Raises TopicsMissing naming them, BrokerDown."""
    from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    names = sorted(topics)
    described = client.describe_topics(TopicCollection(names), request_timeout=TIMEOUT_S)
    found = {topic: _described(topic, future) for topic, future in described.items()}
    places = [TopicPartition(topic, p.id) for topic in names for p in found[topic].partitions]
    spec = OffsetSpec.for_timestamp(int(until.timestamp() * 1000))

    def offsets(kind: Any) -> dict[Place, Any]:
        asked = client.list_offsets(
            {TopicPartition(p.topic, p.partition): kind for p in places},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=TIMEOUT_S,
        )
        try:
            return {(place.topic, place.partition): future.result() for place, future in asked.items()}
        except KafkaException as error:
            raise _down(error) from error

    first, end, timed = offsets(OffsetSpec.earliest()), offsets(OffsetSpec.latest()), offsets(spec)
    newest, now_ms = offsets(OffsetSpec.max_timestamp()), int(time.time() * 1000)
    return {
        place: PartitionLog(
            topic_id=str(found[place[0]].topic_id),
            leader_epoch=end[place].leader_epoch or 0,
            first=first[place].offset,
            stable_end=end[place].offset,
            at_time=timed[place].offset if timed[place].offset >= 0 else None,
            ahead=timedelta(milliseconds=max(0, newest[place].timestamp - now_ms)),
        )
        for place in first
    }


def _to_compare(now: Mapping[Place, PartitionLog], claimed: Mapping[Place, Claim]) -> list[Claim]:
    """Claims whose partition has a newer leader, which may not have had what was claimed: an unclean election."""
    return [
        last
        for place, last in claimed.items()
        if (one := now.get(place))
        and one.topic_id == last.topic_id
        and one.leader_epoch > last.leader_epoch
        and one.first <= last.end <= one.stable_end
        and last.end > 0
    ]


def forked_at(settings: dict[str, Any], claims: Iterable[Claim]) -> dict[Place, int]:
    """Of claims whose offsets are no longer the log's: where the log of their leader epoch ended and another began.

    A consumer that starts at a claim's end with the claim's epoch has the client ask the broker where that epoch ended
    (KIP-320, OffsetsForLeaderEpoch, which the admin client does not offer). Raises BrokerDown."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    waiting = {
        (c.topic, c.partition): TopicPartition(c.topic, c.partition, c.end, leader_epoch=c.leader_epoch) for c in claims
    }
    if not waiting:
        return {}
    own = {
        "log_level": 3,
        **settings,
        "group.id": "plan",  # required by the client; nothing is ever committed to it
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_uncommitted",  # an open transaction must not keep the answer back
        "queued.min.messages": 1,
        "fetch.message.max.bytes": 1024,  # one record is answer enough
    }
    found: dict[Place, int] = {}
    trouble, deadline = "", time.monotonic() + TIMEOUT_S
    consumer = Consumer(own)
    try:
        consumer.assign(list(waiting.values()))
        while waiting:
            message = consumer.poll(0.2)
            if message is None:
                if time.monotonic() > deadline:
                    names = ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(waiting))
                    words = f"{names} did not say within {TIMEOUT_S:g} s where a leader began{trouble}"
                    raise _down(RuntimeError(words))
                continue
            place = (str(message.topic()), int(message.partition() or 0))
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                fork = _FORK.search(error.str())
                if fork is None:
                    trouble = f": {error.str()}"
                    continue
                found[place] = int(fork[1])
            if place in waiting:
                consumer.pause([waiting.pop(place)])
    finally:
        consumer.close()
    return found


def _described(topic: str, future: Any) -> Any:
    from confluent_kafka import KafkaError, KafkaException

    try:
        return future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise _missing([topic]) from error
        raise _down(error) from error


def leaderless(client: AdminClient, topics: Iterable[str]) -> list[str]:
    """Partitions without a leader, as `topic[partition]`. Raises TopicsMissing, BrokerDown."""
    from confluent_kafka import KafkaException

    try:
        known = client.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise _down(error) from error
    if missing := sorted(set(topics) - set(known)):
        raise _missing(missing)
    return [
        f"{topic}[{number}]"
        for topic in topics
        for number, partition in known[topic].partitions.items()
        if partition.leader < 0
    ]


def _missing(names: list[str]) -> TopicsMissing:
    return TopicsMissing(f"topic {', '.join(names)} is not on the broker: create the topics, `make up` does it")


def _down(error: Exception) -> BrokerDown:
    return BrokerDown(f"no Kafka broker answers at connection {CONNECTION} ({error}): see `make status`")


class HourClosedTrigger(BaseTrigger):
    """Fires when the clock has passed `moment` and all partitions of the topics have leaders. A broker that is away is
    waited for; a topic that does not exist ends the wait with its name."""

    def __init__(self, moment: str, topics: list[str], conn_id: str, poll_s: float = 5.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moment, self.topics, self.conn_id, self.poll_s = moment, topics, conn_id, poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "madhatter.kafka.HourClosedTrigger",
            {"moment": self.moment, "topics": self.topics, "conn_id": self.conn_id, "poll_s": self.poll_s},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from airflow.sdk import Connection

        wait = (datetime.fromisoformat(self.moment) - datetime.now(UTC)).total_seconds()
        await asyncio.sleep(max(0.0, wait))
        extra = (await Connection.async_get(self.conn_id)).extra_dejson
        told = ""
        while True:
            try:
                problem = ", ".join(await asyncio.to_thread(lambda: leaderless(admin(extra), self.topics)))
            except TopicsMissing as error:
                yield TriggerEvent({"error": str(error)})
                return
            except BrokerDown as error:
                problem = str(error)
            if not problem:
                yield TriggerEvent({"closed": self.moment})
                return
            if problem != told:
                self.log.warning("the window is over, but the log is not ready: %s", problem)
                told = problem
            await asyncio.sleep(self.poll_s)


class HourClosedSensor(BaseSensorOperator):
    """Waits in the triggerer until the run's window and its tail are over and every partition has a leader."""

    def __init__(self, *, conn_id: str = CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Context) -> None:
        from include.contracts.contract import topics
        from madhatter.partitions import window

        moment = window(context).closes
        self.defer(trigger=HourClosedTrigger(moment.isoformat(), list(topics()), self.conn_id), method_name="closed")

    def closed(self, context: Context, event: dict[str, str]) -> None:  # noqa: ARG002
        if "error" in event:
            raise TopicsMissing(event["error"])
        self.log.info("window closed at %s", event["closed"])
