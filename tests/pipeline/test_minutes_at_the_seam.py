"""Minutes on dashboards: from core or from live, each once, whatever is published, held, late or under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from include.beam.plan import Manifest
from include.functions.warehouse import Warehouse as Functions
from madhatter import ledger, publish
from madhatter.warehouse import Warehouse
from tests.pipeline import minutes
from tests.pipeline.chain import Chain, order
from tests.pipeline.minutes import activity, connect, deliver, sales
from tests.stand_ins import Snowflake

START = datetime(2011, 1, 4, 10)
HOURS = 3
STEP_MIN = 5
MINUTES = [START + timedelta(minutes=number) for number in range(0, 60 * HOURS, STEP_MIN)]
TAIL = timedelta(minutes=2)
# Two pieces at 7.65 in each of MINUTES, by core; live says the same unless a test has it say something else.
TRUTH = dict.fromkeys(MINUTES, 2)


@pytest.fixture
def loader(snowflake: Snowflake) -> Iterator[Functions]:
    """A function's session."""
    own = connect(snowflake)
    yield own
    own._drop()


def load_live(chain: Chain, loader: Functions, units: int = 2) -> None:
    """Live has every minute."""
    rows = [row for one in MINUTES for row in (sales(one, "United Kingdom", units), activity(one, "United Kingdom", 1))]
    deliver(loader, chain.store, minutes.write(chain.store, "all", 1, rows))


def send(chain: Chain, *moments: datetime) -> None:
    """An order in each of the minutes, in the next slice."""
    for one in moments:
        chain.send(0, order(f"{one:%H%M}", f"{one.isoformat()}Z"))


def window_of(number: int) -> tuple[datetime, datetime]:
    start = (START + timedelta(hours=number)).replace(tzinfo=UTC)
    return start, start + timedelta(hours=1)


def stage(chain: Chain, number: int, planned: datetime | None = None) -> str:
    """The slice of an hour from START on, ready to be published. planned: when its offsets were claimed."""
    chain.window = window_of(number)
    slice_id = f"hour-{number}"
    chain.staged(slice_id)
    set_planned(chain, slice_id, planned or chain.window[1].replace(tzinfo=None) + TAIL)
    return slice_id


def set_planned(chain: Chain, slice_id: str, moment: datetime) -> None:
    chain.warehouse.run(
        "update ops.slice set planned_ts = :moment where slice_id = :slice_id", moment=moment, slice_id=slice_id
    )


def of_hour(number: int) -> list[datetime]:
    """The minutes of what arrived in an hour's window and its tail, but not in those of the hour before."""
    start = START + timedelta(hours=number)
    first = start + TAIL if number else start
    return [one for one in MINUTES if first <= one < start + timedelta(hours=1) + TAIL]


def shown(warehouse: Warehouse) -> dict[datetime, int]:
    """Minute -> pieces, and there is one order for each two of them."""
    found = {
        row["minute_ts"]: int(row["units"])
        for row in warehouse.rows("select minute_ts, sum(units) as units from reporting.sales_by_minute group by 1")
    }
    orders = warehouse.rows("select minute_ts, orders from reporting.activity_by_minute where orders > 0")
    assert {row["minute_ts"]: row["orders"] for row in orders} == dict.fromkeys(found, 1)
    assert len(orders) == len(found)
    return found


def from_core(warehouse: Warehouse) -> set[datetime]:
    """The minutes that do not come from live, which says 9 pieces each."""
    return {moment for moment, units in shown(warehouse).items() if units != 9}


def test_minute_is_there_once_at_every_moment_while_hours_are_published(
    chain: Chain, loader: Functions, snowflake: Snowflake
) -> None:
    """A reader looks all the time. Live says what core will, so that a gap or a double is another sum."""
    load_live(chain, loader)
    wrong: list[dict[datetime, int]] = []
    looks = 0
    is_over = threading.Event()

    def read() -> None:
        nonlocal looks
        own = snowflake.open()
        while not is_over.is_set() and not wrong:
            if (found := shown(own)) != TRUTH:
                wrong.append(found)
            looks += 1
        own.close()

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(HOURS):
        send(chain, *of_hour(number))
        chain.publish(stage(chain, number))
    is_over.set()
    reader.join()
    assert wrong == []
    assert looks > HOURS
    assert shown(chain.warehouse) == TRUTH


def test_hour_changes_sides_with_its_publication_and_not_before(
    chain: Chain, loader: Functions, snowflake: Snowflake
) -> None:
    load_live(chain, loader, units=9)
    send(chain, *of_hour(0))
    slice_id = stage(chain, 0)
    other = snowflake.open()
    assert from_core(other) == set()
    with chain.warehouse.transaction():
        hours = Manifest.read(chain.store, slice_id).hours()
        publish.publish(chain.warehouse, slice_id, {slice_id: hours[slice_id]})
        assert from_core(other) == set()
    assert from_core(other) == {one for one in MINUTES if one < START + timedelta(hours=1)}
    other.close()


def test_without_any_publication_all_is_live(chain: Chain, loader: Functions) -> None:
    load_live(chain, loader, units=9)
    assert shown(chain.warehouse) == dict.fromkeys(MINUTES, 9)


def test_held_hour_and_its_tail_are_live_until_somebody_decides(chain: Chain, loader: Functions) -> None:
    """Its slice has the first two minutes of the hour after it."""
    load_live(chain, loader, units=9)
    for number in range(HOURS):
        send(chain, *of_hour(number))
        slice_id = stage(chain, number)
        if number == 1:
            ledger.set_state(chain.warehouse, slice_id, "held")
        else:
            chain.publish(slice_id)
    held = {one for one in MINUTES if timedelta(hours=1) <= one - START <= timedelta(hours=2)}
    assert from_core(chain.warehouse) == set(MINUTES) - held
    ledger.set_state(chain.warehouse, "hour-1", "audited")
    chain.publish("hour-1")
    assert shown(chain.warehouse) == TRUTH


def test_hours_that_a_slice_far_behind_has_taken_are_live_until_it_is_published(
    chain: Chain, loader: Functions
) -> None:
    """The first one, planned late, has everything; those after it are empty and come through before."""
    load_live(chain, loader, units=9)
    now = START + timedelta(hours=HOURS, minutes=5)
    send(chain, *MINUTES)
    stage(chain, 0, now)
    for number in range(1, HOURS):
        chain.publish(stage(chain, number, now + timedelta(minutes=number)))
    assert from_core(chain.warehouse) == set()
    chain.publish("hour-0")
    assert shown(chain.warehouse) == TRUTH


def test_hours_that_a_backfill_has_taken_are_live_until_it_is_published(chain: Chain, loader: Functions) -> None:
    """It catches up from the last claims to now; the hours that follow have what came after it."""
    load_live(chain, loader, units=9)
    send(chain, *of_hour(0))
    chain.publish(stage(chain, 0))
    until = START + timedelta(hours=2, minutes=12)
    send(chain, *(one for one in MINUTES if START + timedelta(hours=1) + TAIL < one < until))
    chain.window = (datetime(1970, 1, 1, tzinfo=UTC), until.replace(tzinfo=UTC))
    chain.staged("backfill-1")
    chain.warehouse.run("update ops.slice set kind = 'backfill' where slice_id = 'backfill-1'")
    set_planned(chain, "backfill-1", until)
    first = {one for one in MINUTES if one < START + timedelta(hours=1)}
    assert from_core(chain.warehouse) == first
    send(chain, *(one for one in MINUTES if one >= until))
    for number in range(1, HOURS):
        chain.publish(stage(chain, number, START + timedelta(hours=3, minutes=number)))
    after = {one for one in MINUTES if one > until}
    assert from_core(chain.warehouse) == first | after
    chain.publish("backfill-1")
    assert shown(chain.warehouse) == TRUTH


def test_backfill_shows_minutes_whose_stragglers_it_has(chain: Chain, loader: Functions) -> None:
    """It ends in the middle of a minute, and does not wait."""
    load_live(chain, loader, units=9)
    until = START + timedelta(minutes=12, seconds=30)
    send(chain, *(one for one in MINUTES if one < until))
    chain.window = (datetime(1970, 1, 1, tzinfo=UTC), until.replace(tzinfo=UTC))
    chain.staged("backfill-1")
    chain.warehouse.run("update ops.slice set kind = 'backfill' where slice_id = 'backfill-1'")
    chain.publish("backfill-1")
    assert from_core(chain.warehouse) == {START, START + timedelta(minutes=5)}


def test_late_events_change_a_published_minute_and_no_other(chain: Chain, loader: Functions) -> None:
    load_live(chain, loader)
    send(chain, *of_hour(0))
    chain.publish(stage(chain, 0))
    chain.send(0, order("late", f"{START.isoformat()}Z", quantity=5))
    send(chain, *of_hour(1))
    chain.publish(stage(chain, 1))
    found = {
        row["minute_ts"]: row["units"]
        for row in chain.warehouse.rows(
            "select minute_ts, sum(units) as units from reporting.sales_by_minute group by 1"
        )
    }
    assert found == {**TRUTH, START: 7}


def test_replay_of_an_hour_changes_no_minute(chain: Chain, loader: Functions) -> None:
    load_live(chain, loader, units=9)
    send(chain, *of_hour(0))
    chain.publish(stage(chain, 0))
    before = shown(chain.warehouse)
    assert chain.replay("archive", window_of(0)[1])
    assert shown(chain.warehouse) == before
