"""Kafka as the planner and the sensor see it: topics from contracts, offsets by time, leaders. Metadata only."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.triggers.base import BaseTrigger, TriggerEvent

from madhatter.slices import PartitionLog, Place

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

CONNECTION = "kafka_default"
TIMEOUT_S = 15.0
ANSWER_S = 3.0  # for a leader to answer; an election takes about as long


class TopicsMissing(RuntimeError):
    """Topics without which a window cannot be read."""


class BrokerDown(ConnectionError):
    """No broker answers, or not the one that leads a partition."""


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

    Waits for elections. Raises TopicsMissing naming them, BrokerDown."""
    from confluent_kafka import TopicCollection, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    names = sorted(topics)
    _wait_for_leaders(client, names)
    described = client.describe_topics(TopicCollection(names), request_timeout=TIMEOUT_S)
    found = {topic: _described(topic, future) for topic, future in described.items()}
    places = [TopicPartition(topic, p.id) for topic in names for p in found[topic].partitions]
    spec = OffsetSpec.for_timestamp(int(until.timestamp() * 1000))

    def offsets(kind: Any) -> dict[Place, Any]:
        found = _offsets(client, places, kind, TIMEOUT_S)
        if silent := _silent(found):
            raise _down(f"no answer from the leader of {_words(silent)}")
        return found

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


def _offsets(client: AdminClient, places: list[TopicPartition], kind: Any, timeout_s: float) -> dict[Place, Any]:
    """What a partition's leader says, or nothing where it does not: see _silent. Raises BrokerDown."""
    from confluent_kafka import IsolationLevel, KafkaException, TopicPartition

    asked = client.list_offsets(
        {TopicPartition(p.topic, p.partition): kind for p in places},
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=timeout_s,
    )
    try:
        return {(place.topic, place.partition): future.result() for place, future in asked.items()}
    except KafkaException as error:
        raise _down(error) from error


def _silent(found: Mapping[Place, Any]) -> list[Place]:
    """Partitions whose leader gave no answer: the client says so by an impossible offset, not by an error. Taken for
    an offset, it would be a log cut to nothing."""
    from confluent_kafka import OFFSET_INVALID

    return [place for place, info in found.items() if info.offset == OFFSET_INVALID]


def _words(places: Iterable[Place]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(places))


def _wait_for_leaders(client: AdminClient, topics: list[str]) -> None:
    """Returns when every partition's leader answers. Raises TopicsMissing, BrokerDown after TIMEOUT_S."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            if not (problems := unready(client, topics)):
                return
            failure = _down("; ".join(problems))
        except BrokerDown as error:  # a leader that is just being elected refuses in its own words
            failure = error
        if time.monotonic() > deadline:
            raise failure
        time.sleep(0.5)


def unready(client: AdminClient, topics: Iterable[str]) -> list[str]:
    """Partitions without a leader, and leaders that do not answer, each with a sentence. With most of its controllers
    dead, a cluster goes on to name leaders that are dead as well. Raises TopicsMissing, BrokerDown."""
    from confluent_kafka import KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    topics = list(topics)
    try:
        cluster = client.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        raise _down(error) from error
    if missing := sorted(set(topics) - set(cluster.topics)):
        raise _missing(missing)
    leaders = {(topic, number): p.leader for topic in topics for number, p in cluster.topics[topic].partitions.items()}
    if orphans := [place for place, leader in leaders.items() if leader < 0]:
        return [f"no leader for {_words(orphans)}"]
    answers = _offsets(client, [TopicPartition(*place) for place in leaders], OffsetSpec.latest(), ANSWER_S)
    silent: dict[str, list[Place]] = defaultdict(list)
    for place in _silent(answers):
        broker = cluster.brokers.get(leaders[place])
        silent[f"{broker.host}:{broker.port}" if broker else f"broker {leaders[place]}"].append(place)
    return [f"no answer from {broker}, the leader of {_words(places)}" for broker, places in sorted(silent.items())]


def _missing(names: list[str]) -> TopicsMissing:
    return TopicsMissing(f"topic {', '.join(names)} is not on the broker: create the topics, `make up` does it")


def _down(error: Exception | str) -> BrokerDown:
    return BrokerDown(f"Kafka does not answer at connection {CONNECTION} ({error}): see `make status`")


class HourClosedTrigger(BaseTrigger):
    """Fires when the clock has passed `moment` and all partitions of the topics have leaders that answer. A broker that
    is away is waited for; a topic that does not exist ends the wait with its name."""

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
                problem = "; ".join(await asyncio.to_thread(lambda: unready(admin(extra), self.topics)))
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
