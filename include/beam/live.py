"""Kafka, as it comes, to minutes and signals within a second: the streaming job, the same on Dataflow and on Prism.

Reads   the topics in TOPICS, the rules in include/beam/rules, a snapshot of the warehouse (include/beam/snapshot.py).
Writes  every 10 s what has changed of the minutes, and each final minute: <store>/live/batches/*.parquet, with a notice
        in Pub/Sub's live.batches; signals, to the topics in include/signals.py; messages on which the job's own code
        fails, without their payload, to live.dead_letters.
Again   what is final and every signal is a function of the log and the snapshot alone. A job that begins anew
        goes back 40 minutes from where <store>/live/position.json (minutes) and signals.json say, and tells nothing of
        the time before.

Beam's elements are batches of columns, not events. State lives in the worker's memory behind Beam's (live_state.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from apache_beam.options.pipeline_options import PipelineOptions

from include import storage
from include.beam import snapshot
from include.beam.live_copies import CountOnce
from include.beam.live_minutes import Minutes
from include.beam.live_parse import ParseBatch
from include.beam.live_rules import Judge, of_minute
from include.beam.live_sink import Publish, SignalsUntil, WriteMinutes, position_uri, signals_uri
from include.beam.live_source import FindPartitions, ReadPartition, Topic
from include.beam.rules import RULES
from include.beam.rules.rows import MinuteRow
from include.beam.rules.rule import AHEAD_MS, MOST_HORIZON_S, Rule

TOPICS = ("web.interactions", "mobile.interactions", "sales.orders", "inventory.movements", "iot.readings")
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Settings:
    """What a job is started with. since_ms: the first minute and the first moment it tells of, POSIX milliseconds;
    from_ms: the arrival from which on it reads."""

    bootstrap_servers: str
    store: str
    project: str
    snapshot: str | None
    since_ms: int
    from_ms: int
    topics: tuple[str, ...] = TOPICS

    @property
    def first(self) -> int:
        """The first minute (since the epoch) all of whose events are read."""
        return -(-(self.from_ms + AHEAD_MS) // MINUTE_MS)


def since(store: str, now_ms: int) -> int:
    """Where a job takes over, POSIX milliseconds: where the last one's minutes are final and its signals are out, else
    the next full minute."""
    marks = ((position_uri(store), "final_until"), (signals_uri(store), "until"))
    reached = [storage.read_json(uri)[name] for uri, name in marks if storage.exists(uri)]
    if not reached:
        return -(-now_ms // MINUTE_MS) * MINUTE_MS
    return int(min(datetime.fromisoformat(moment).timestamp() for moment in reached)) * 1000


def build(pipeline: beam.Pipeline, settings: Settings, rules: Sequence[type[Rule]] = RULES) -> None:
    """Adds the job's steps to a pipeline."""
    of_events = [rule for rule in rules if rule.ROW is not MinuteRow]
    of_minutes = [rule for rule in rules if rule.ROW is MinuteRow]
    earlier = {}
    if settings.snapshot:
        earlier["inventory.movements"] = snapshot.read(settings.snapshot).inventory_offsets
    parsed = (
        pipeline
        | "topics" >> beam.Create([Topic(name, settings.from_ms) for name in settings.topics], reshuffle=False)
        | "find partitions" >> beam.ParDo(FindPartitions(settings.bootstrap_servers, earlier))
        | "read" >> beam.ParDo(ReadPartition())
        | "parse"
        >> beam.ParDo(ParseBatch(of_events, settings.snapshot, settings.since_ms)).with_outputs(
            "counted", "letters", main="rows"
        )
    )
    sums = _of(parsed.counted, str) | "count once" >> beam.ParDo(CountOnce(settings.first)).with_output_types(
        tuple[int, bytes]
    )
    start = pipeline | "start" >> beam.Create([(0, b"")], reshuffle=False).with_output_types(tuple[int, bytes])
    minutes = (
        (start, sums)
        | "all sums" >> beam.Flatten()
        | "minutes"
        >> beam.ParDo(Minutes(settings.first, settings.since_ms // MINUTE_MS)).with_outputs("minutes", main="outcomes")
    )
    _ = minutes.outcomes | "write" >> beam.ParDo(WriteMinutes(settings.store, settings.project))
    told = []
    letters = [parsed.letters]
    for step, kinds, rows in (
        ("judge events", of_events, parsed.rows),
        ("judge minutes", of_minutes, minutes.minutes | "for rules" >> beam.Map(of_minute, of_minutes)),
    ):
        if kinds:
            judge = Judge(step, kinds, settings.snapshot, settings.since_ms)
            found = _of(rows, int) | step >> beam.ParDo(judge).with_outputs("letters", main="signals")
            told.append(found.signals)
            letters.append(found.letters)
    published = [start]
    for name, parts in (("signals", told), ("letters", letters)):
        for number, part in enumerate(parts):
            done = part | f"publish {name} {number}" >> beam.ParDo(Publish(settings.project)).with_output_types(
                tuple[int, bytes]
            )
            # Not those of minutes: their step's watermark stands, at the element that set its timer going.
            if of_events and (name, number) == ("signals", 0):
                published.append(done)
    marked = published | "signals of events" >> beam.Flatten()
    _ = marked | "signals until" >> beam.ParDo(SignalsUntil(settings.store, settings.since_ms))


def _of(keyed: Any, key: type) -> Any:
    """One of several outputs, with the types that state needs to be told of: (key, bytes)."""
    keyed.element_type = typehints.Tuple[key, bytes]
    return keyed


def main(argv: Sequence[str] | None = None) -> None:
    """Starts the job. On a local runner it stays; on Dataflow the launcher returns at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap_servers", required=True, help="Kafka's host:port,...")
    parser.add_argument("--store", required=True, help="URI of the platform's store")
    parser.add_argument("--project", required=True, help="of Pub/Sub's topics")
    parser.add_argument("--snapshot", help="URI of snapshot.json")
    known, rest = parser.parse_known_args(argv)
    now_ms = round(time.time() * 1000)
    since_ms = since(known.store, now_ms)
    from_ms = min(since_ms, now_ms) - MOST_HORIZON_S * 1000 - AHEAD_MS
    settings = Settings(known.bootstrap_servers, known.store, known.project, known.snapshot, since_ms, from_ms)
    # save_main_session: everything is in modules that the image has.
    pipeline = beam.Pipeline(
        options=PipelineOptions([*rest, f"--project={known.project}"], streaming=True, save_main_session=False)
    )
    build(pipeline, settings)
    result = pipeline.run()
    if "Dataflow" not in type(pipeline.runner).__name__:
        result.wait_until_finish()


if __name__ == "__main__":
    # By its module's name, so that workers find what is pickled here.
    from include.beam import live

    live.main()
