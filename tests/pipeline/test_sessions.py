"""Sessions of a visitor who never pauses: cut at midnights, the same whatever order the events came in."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from madhatter import publish
from tests.pipeline import market_events
from tests.pipeline.chain import Chain

TOPIC = "web.interactions"
START = datetime(2011, 1, 4, 0, 40)
PAUSE = timedelta(minutes=30)


def send(chain: Chain, moments: list[datetime]) -> None:
    base = market_events.interaction(random.Random(1), "x", "web") | {"visitor_id": "robot", "country": "France"}
    changes = [{"event_id": f"{moment:%d-%H%M}", "event_ts": f"{moment.isoformat()}Z"} for moment in moments]
    chain.send(0, *(market_events.value(base | change) for change in changes), topic=TOPIC)


def walked(moments: list[datetime]) -> list[tuple[datetime, datetime, int]]:
    """(start, end, events) of each session, by a walk over the sorted moments."""
    found: list[list[datetime]] = []
    visit = START
    for moment in sorted(moments):
        midnight = moment.replace(hour=0, minute=0)
        if not found or moment - found[-1][-1] > PAUSE:
            visit = moment
            found.append([])
        elif found[-1][-1] < midnight and midnight - visit >= timedelta(hours=23.5):
            found.append([])
        found[-1].append(moment)
    return [(part[0], part[-1], len(part)) for part in found]


def shown(chain: Chain) -> list[tuple[Any, ...]]:
    rows = chain.warehouse.rows("select * from marts.session order by start_ts")
    return [(row["start_ts"], row["end_ts"], row["interactions"]) for row in rows]


def rebuilt(chain: Chain) -> dict[str, list[str]]:
    hours = chain.warehouse.rows("select distinct event_hour from core.interaction")
    with chain.warehouse.transaction():
        chain.warehouse.run("delete from marts.session")
        chain.warehouse.run("delete from marts.funnel_hourly")
        publish.compute_hours(chain.warehouse, [row["event_hour"].isoformat() for row in hours])
    return chain.content("marts")


def test_visitor_without_a_pause_begins_a_new_session_at_midnights(chain: Chain) -> None:
    chain.chunk_size = 500
    moments = [START + timedelta(minutes=25 * number) for number in range(5 * 24 * 60 // 25)]
    shuffled = random.Random(7).sample(moments, len(moments))
    for number in range(6):
        send(chain, shuffled[number::6])
        chain.run(f"hour-{number}")
    expected = walked(moments)
    assert [start.day for start, *_ in expected] == [4, 6, 7, 8, 9]
    assert shown(chain) == expected
    assert chain.content("marts") == rebuilt(chain)


def test_event_that_ends_the_stretch_without_a_pause_moves_the_sessions_after_it(chain: Chain) -> None:
    chain.chunk_size = 500
    moments = [START + timedelta(minutes=25 * number) for number in range(4 * 24 * 60 // 25)]
    last = [moment for moment in moments if moment.day == 5][30:32]
    send(chain, [moment for moment in moments if moment not in last])
    chain.run("hour-1")
    send(chain, last)
    chain.run("hour-2")
    assert shown(chain) == walked(moments)
    chain.warehouse.run(
        "insert into ops.erased (event_id) values (:a), (:b)", a=f"{last[0]:%d-%H%M}", b=f"{last[1]:%d-%H%M}"
    )
    chain.publish("hour-2")
    assert shown(chain) == walked([moment for moment in moments if moment not in last])
    assert chain.content("marts") == rebuilt(chain)
