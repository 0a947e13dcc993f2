"""Kafka as an unbounded Beam source without Java: partitions found while it runs, each read by a splittable DoFn.

A restriction is a range of offsets without an end. What a bundle takes, it claims by its last offset and leaves the
rest to the next bundle, so nothing is lost or doubled within a job. The watermark is arrival: the broker's time of the
last message, or of the moment when the broker said that there is none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.iobase import RestrictionProgress
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp
from confluent_kafka import Consumer, KafkaException, TopicPartition

from include.beam import live_log
from include.beam.live_log import ANSWER_S, SETTINGS, Batch, Split

FOR_EVER = 2**62
CYCLE_S = 0.1  # for the partitions of one process together: a runner may read them one after the other
SLACK_S = 2  # clocks of brokers differ, and a new leader's may be behind
LOOK_S = 5  # new partitions are found so late, at most
AGAIN_S = 2  # after a broker gave no answer
log = logging.getLogger(__name__)


class Topic(NamedTuple):
    """A topic to be read from an arrival on, POSIX milliseconds."""

    name: str
    from_ms: int


class Arrival(WatermarkEstimatorProvider):  # type: ignore[misc]
    """Watermarks that begin where reading does. Prism takes a restriction that has none yet for one that holds back
    nothing, and what is read then would be late."""

    def initial_estimator_state(self, element: Topic | Split, restriction: OffsetRange) -> Timestamp:  # noqa: ARG002
        return Timestamp.of(element.from_ms / 1000 - SLACK_S)

    def create_watermark_estimator(self, estimator_state: Timestamp) -> ManualWatermarkEstimator:
        return ManualWatermarkEstimator(estimator_state)


class OpenTracker(OffsetRestrictionTracker):  # type: ignore[misc]
    """Of an endless range. Every split is a checkpoint at the place reached: a partition is read by one at a time."""

    def is_bounded(self) -> bool:
        return False

    def try_split(self, fraction_of_remainder: float) -> Any:  # noqa: ARG002 - Beam's signature
        reached = self._range.start if self._current_position is None else self._current_position + 1
        if reached >= self._range.stop:
            return None
        self._checkpointed = True
        done, rest = OffsetRange(self._range.start, reached), OffsetRange(reached, self._range.stop)
        self._range = done
        return done, rest

    def check_done(self) -> None:
        """An endless range is never done, it is left to the next bundle."""

    def current_progress(self) -> RestrictionProgress:
        reached = 0 if self._current_position is None else self._current_position + 1 - self._range.start
        return RestrictionProgress(completed=reached, remaining=1)


class OpenRange(RestrictionProvider):  # type: ignore[misc]
    """Of partitions; sizes in bytes, from the high watermark, which is what Dataflow scales on."""

    def initial_restriction(self, element: Split) -> OffsetRange:
        return OffsetRange(element.start, FOR_EVER)

    def create_tracker(self, restriction: OffsetRange) -> OpenTracker:
        return OpenTracker(restriction)

    def restriction_size(self, element: Split, restriction: OffsetRange) -> int:
        if restriction.stop < FOR_EVER:
            return int(restriction.stop - restriction.start)
        messages, size = live_log.backlog(element, restriction.start)
        return max(1, messages * size)

    def split(self, element: Split, restriction: OffsetRange) -> Iterator[OffsetRange]:  # noqa: ARG002
        yield restriction

    def truncate(self, element: Split, restriction: OffsetRange) -> None:
        """A drained job reads nothing more."""


class Count(OpenRange):
    """Of how many partitions of a topic are found."""

    def initial_restriction(self, element: Any) -> OffsetRange:  # noqa: ARG002
        return OffsetRange(0, FOR_EVER)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:  # noqa: ARG002
        return 1


class FindPartitions(beam.DoFn):  # type: ignore[misc]
    """Topic -> Split of each partition, at once or when it comes to be. earlier: {topic: {partition: offset}}, where
    messages are wanted that arrived before from_ms."""

    def __init__(self, bootstrap_servers: str, earlier: dict[str, dict[int, int]]) -> None:
        self.bootstrap_servers, self.earlier = bootstrap_servers, earlier

    def setup(self) -> None:
        self.consumer = Consumer({**SETTINGS, "bootstrap.servers": self.bootstrap_servers})

    def teardown(self) -> None:
        self.consumer.close()

    @beam.DoFn.unbounded_per_element()  # type: ignore[misc]
    def process(
        self,
        topic: Topic,
        tracker: Any = beam.DoFn.RestrictionParam(Count()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(Arrival()),
    ) -> Iterator[Any]:
        asked = Timestamp.now()
        found = tracker.current_restriction().start
        while (starts := self._starts(topic, found)) is None:
            if found:
                tracker.defer_remainder(Duration(AGAIN_S))
                return
            # A runner may take a restriction that has given nothing yet for one that holds back nothing: no other
            # topic may go on, and its minutes become final, before this one is there.
            time.sleep(AGAIN_S)
            asked = Timestamp.now()
        if starts:
            if not tracker.try_claim(found + len(starts) - 1):
                return
            for partition, start in enumerate(starts, found):
                split = Split(self.bootstrap_servers, topic.name, partition, start, topic.from_ms)
                # As old as what it may bring: a watermark that passed it would make that late.
                yield TimestampedValue(split, watermark.current_watermark())
        if asked - SLACK_S > watermark.current_watermark():
            watermark.set_watermark(asked - SLACK_S)
        tracker.defer_remainder(Duration(LOOK_S))

    def _starts(self, topic: Topic, found: int) -> list[int] | None:
        """Where to begin in each partition that is not found yet; None while a broker is away or the topic is still to
        come."""
        try:
            known = self.consumer.list_topics(topic.name, timeout=ANSWER_S).topics[topic.name]
            if known.error:
                raise KafkaException(known.error)
            return [self._start(topic, partition) for partition in range(found, len(known.partitions))]
        except KafkaException as error:
            log.warning("%s: its partitions cannot be had: %s", topic.name, error)
            return None

    def _start(self, topic: Topic, partition: int) -> int:
        """The first offset that arrived at from_ms or later. Raises KafkaException."""
        place = TopicPartition(topic.name, partition, topic.from_ms)
        # In this order: what arrives in between would be passed over in the other.
        low, high = self.consumer.get_watermark_offsets(place, timeout=ANSWER_S)
        (answer,) = self.consumer.offsets_for_times([place], timeout=ANSWER_S)
        if answer.error:
            raise KafkaException(answer.error)
        start = int(answer.offset) if answer.offset >= 0 else high
        return max(low, min(start, high, self.earlier.get(topic.name, {}).get(partition, start)))


class ReadPartition(beam.DoFn):  # type: ignore[misc]
    """Split -> Batches, one a bundle. Raises LogLost where offsets have left the log."""

    @beam.DoFn.unbounded_per_element()  # type: ignore[misc]
    def process(
        self,
        split: Split,
        tracker: Any = beam.DoFn.RestrictionParam(OpenRange()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(Arrival()),
    ) -> Iterator[Any]:
        place = live_log.take(split)
        try:
            place.seek(tracker.current_restriction().start)
            batch: Batch = place.read(CYCLE_S / live_log.kept())
            now = watermark.current_watermark()
            if batch.values:
                if not tracker.try_claim(batch.offsets[-1]):
                    place.offset = -1  # read again, by the bundle that has it now
                    return
                # Never behind the watermark: what is late is decided message by message, by the log alone.
                yield TimestampedValue(batch, now)
                reached = Timestamp.of(batch.arrivals_ms[-1] / 1000 - SLACK_S)
            elif place.idle_since_s is not None:
                reached = Timestamp.of(place.idle_since_s - SLACK_S)
            else:
                reached = now
            if reached > now:
                watermark.set_watermark(reached)
            tracker.defer_remainder()
        finally:
            live_log.give_back(split, place)
