"""Kafka as the planner and the sensor see it: topics from contracts, offsets by time, leaders and their epochs."""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from madhatter import slices
from madhatter.slices import Claim, PartitionLog, Place

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

CONNECTION = "kafka_default"
TIMEOUT_S = 15.0
ANSWER_S = 3.0  # for a leader to answer; an election takes about as long
_FORK = re.compile(r"log truncation detected .*broker end offset is (\d+)")  # librdkafka's words


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
