"""Kafka as the planner and the sensor see it: topics from contracts, offsets by time, leaders. Metadata only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import BaseTrigger, TriggerEvent

from madhatter.slices import PartitionLog, Place

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

CONNECTION = "kafka_default"
TIMEOUT_S = 15.0


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
    return {
        place: PartitionLog(
            topic_id=str(found[place[0]].topic_id),
            leader_epoch=end[place].leader_epoch or 0,
            first=first[place].offset,
            stable_end=end[place].offset,
            at_time=timed[place].offset if timed[place].offset >= 0 else None,
        )
        for place in first
    }


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
