"""Days between two measurements, loaded as a replay is: a slice for each hour, and one load of up to 200 of them.

The ledger gets what an hour's own plan gives it, a row for each slice and for each of its partitions; one statement
does it for all slices of the load. All events of a topic's hour are in one of its partitions, so that there are a third
as many files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.year.hours import arguments
from local.simulator import batch
from local.simulator.events import TOPICS, Events
from local.simulator.producer import open_producer

if TYPE_CHECKING:
    from bench.year.hours import Hours
    from include.beam.plan import Chunk
    from madhatter.slices import Claim, Place
    from madhatter.warehouse import Warehouse

MOST_SLICES = 192  # eight days; the platform's own loads have 200 at most


def fill(hours: Hours, first: int, end: int) -> None:
    """Loads the hours [first, end). Raises RuntimeError when the broker has not
    got everything."""
    from include import references
    from include.beam import hourly
    from include.beam.plan import Manifest, cut
    from madhatter import kafka, ledger, planning, publish, staging, warehouse
    from madhatter.settings import settings

    store, size = settings().store, settings().chunk_size
    with warehouse.session() as session:
        known = ledger.last_claims(session)
    log = kafka.read_log(kafka.admin(hours.clients), TOPICS, datetime.now(UTC))
    ends = {place: known[place].end if place in known else now.first for place, now in log.items()}
    claims: dict[str, list[Claim]] = {}
    bootstrap = hours.clients["bootstrap.servers"]
    producer = open_producer(bootstrap, batch.SETTINGS)
    for number in range(first, end):
        slice_id = planning.hour_id(hours.window(number)[0])
        claims[slice_id] = list(_send(producer, hours.events(number), number, ends, log))
        producer.poll(0)
    if left := producer.flush(batch.FLUSH_S):
        raise RuntimeError(f"{left} events did not reach the broker")
    pins = references.pin(store)
    with warehouse.session() as session:
        _plan(session, hours, range(first, end), claims, pins)
        chunks: list[Chunk] = [
            chunk
            for slice_id, own in claims.items()
            for c in own
            for chunk in cut(slice_id, c.topic, c.partition, c.start, c.end, size)
        ]
        load = planning.write(store, f"replay-{first}-{end}", list(claims), chunks, pins, bootstrap)
        # Chunks of some events are waited for, not computed.
        hourly.main([*arguments(load), "--direct_running_mode=multi_threading", "--direct_num_workers=4"])
        manifest = Manifest.read(store, load["load_id"])
        with session.transaction():
            staging.stage(session, store, manifest)
            session.run("update ops.slice set state = 'audited' where state = 'planned'")
        touched = manifest.hours()
        with session.transaction():
            publish.publish(session, load["load_id"], {one: touched.get(one, []) for one in claims})


def _send(producer: Any, events: Events, number: int, ends: dict[Place, int], log: Any) -> Iterator[Claim]:
    """Queues an hour's events; yields a claim for each partition, empty ones included, and moves `ends`."""
    from madhatter.slices import Claim

    counts = {topic: sum(known == topic for known, _ in ends) for topic in TOPICS}
    starts = dict(ends)
    for index, topic in enumerate(TOPICS):
        rows = np.flatnonzero(events.topic == index).tolist()
        partition = number % counts[topic]
        messages = [{"value": events.values[row], "key": events.keys[row]} for row in rows]
        if messages and producer.produce_batch(topic, messages, partition) != len(messages):
            raise RuntimeError(f"the queue to the broker is full at hour {number}")
        ends[topic, partition] += len(messages)
    for (topic, partition), start in sorted(starts.items()):
        now = log[topic, partition]
        yield Claim(topic, partition, now.topic_id, now.leader_epoch, start, ends[topic, partition])


def _plan(
    warehouse: Warehouse, hours: Hours, numbers: range, claims: dict[str, list[Claim]], pins: dict[str, str]
) -> None:
    """Puts the slices into the ledger, under its lock."""
    from madhatter import ledger

    slices = [
        [slice_id, *(moment.astimezone(UTC).replace(tzinfo=None).isoformat() for moment in hours.window(number))]
        for slice_id, number in zip(claims, numbers, strict=True)
    ]
    rows = [
        [slice_id, c.topic, c.partition, c.topic_id, c.leader_epoch, c.start, c.end]
        for slice_id, own in claims.items()
        for c in own
    ]
    with warehouse.transaction():
        ledger.take_lock(warehouse, "plan", "bench")
        warehouse.run(
            "insert into ops.slice (slice_id, kind, window_start, window_end, state, planned_ts, pins) "
            "select value[0]::varchar, 'hour', value[1]::timestamp_ntz, value[2]::timestamp_ntz, 'planned', sysdate(), "
            ":pins from table(flatten(input => parse_json(:slices)))",
            slices=json.dumps(slices),
            pins=json.dumps(pins),
        )
        warehouse.run(
            "insert into ops.slice_partition "
            "(slice_id, topic, partition, topic_id, leader_epoch, start_offset, end_offset) "
            "select value[0]::varchar, value[1]::varchar, value[2]::integer, value[3]::varchar, value[4]::integer, "
            "value[5]::integer, value[6]::integer from table(flatten(input => parse_json(:rows)))",
            rows=json.dumps(rows),
        )


def blocks(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The hours [first, end) in loads; the last one has three days at most, so that little is staged after it."""
    last = max(first, end - 72)
    for begin in range(first, last, MOST_SLICES):
        yield begin, min(begin + MOST_SLICES, last)
    if last < end:
        yield last, end
