"""Planners and publishers at once, dead ones and late ones: they take turns, and the content is that of one after the
other."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import pytest
import sqlglot

from include.beam.plan import Manifest
from local.instance import ROOT
from madhatter import ledger, publish, staging
from madhatter.warehouse import Warehouse
from tests.pipeline import market_events
from tests.pipeline.chain import TOPIC, Chain, empty_chain, order
from tests.stand_ins import Snowflake
from tests.unit.test_warehouse_sql import DML_OR_QUERY

FIRST, SECOND, THIRD = "hour-20110104t100000", "hour-20110104t110000", "hour-20110104t120000"


@pytest.fixture
def others(snowflake: Snowflake) -> Iterator[Callable[[], Warehouse]]:
    """Opens sessions of others. One that waits for a lock for a minute gives up."""
    opened: list[Warehouse] = []

    def open_session() -> Warehouse:
        opened.append(snowflake.open())
        opened[-1].run("alter session set lock_timeout = 60")
        return opened[-1]

    yield open_session
    for one in opened:
        one.close()


def stage_pair(chain: Chain) -> None:
    """Empties the tables and stages two slices with an order in common and hours of their own."""
    chain.log = {place: [] for place in empty_chain(chain.warehouse, chain.folder).log}
    chain.send(0, order("A", "2011-01-04T08:00:00Z"), order("X"), b"junk")
    chain.staged(FIRST)
    chain.send(1, order("X"), order("B", "2011-01-04T12:00:00Z"), order("X"))
    chain.staged(SECOND)


def staged_pair(chain: Chain, *turns: str) -> dict[str, list[str]]:
    """Two staged slices; returns the content when they are published one after the other."""
    stage_pair(chain)
    for slice_id in turns:
        chain.publish(slice_id)
    found = chain.content()
    stage_pair(chain)
    return found


def publication(chain: Chain, slice_id: str, session: Warehouse) -> None:
    """As the publishing task does it, over a session of its own."""
    with session.transaction():
        publish.publish(session, slice_id, Manifest.read(chain.store, slice_id).hours())


@contextmanager
def started(work: Callable[[], Any]) -> Iterator[threading.Thread]:
    """The work in a thread, which has begun."""
    begun = threading.Event()

    def run() -> None:
        begun.set()
        work()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(30)
    yield thread
    thread.join(120)
    assert not thread.is_alive(), "it waits for ever"


def test_second_publisher_waits_for_the_first_and_sees_what_it_made_visible(
    chain: Chain, others: Callable[[], Warehouse]
) -> None:
    expected = staged_pair(chain, FIRST, SECOND)
    mine, other = others(), others()
    mine.run("begin")
    publish.publish(mine, FIRST, Manifest.read(chain.store, FIRST).hours())
    with started(lambda: publication(chain, SECOND, other)) as waiting:
        waiting.join(1)
        assert waiting.is_alive(), "it did not wait"
        assert chain.state(SECOND) == "audited"
        mine.run("commit")
    assert chain.content() == expected
    assert chain.counts(SECOND)[1] == (3, 0, 1, 2, 0, 0)
    assert chain.is_balanced()


def test_publishers_of_one_slice_at_once_publish_it_once(chain: Chain, others: Callable[[], Warehouse]) -> None:
    expected = staged_pair(chain, FIRST, SECOND)
    chain.publish(FIRST)
    one, other = others(), others()
    with (
        started(lambda: publication(chain, SECOND, one)) as first,
        started(lambda: publication(chain, SECOND, other)) as second,
    ):
        assert first is not second
    assert chain.content() == expected
    assert chain.is_balanced()


def test_staging_beside_a_publication_waits_for_it_and_neither_is_broken_off(
    chain: Chain, others: Callable[[], Warehouse]
) -> None:
    expected = staged_pair(chain, FIRST, SECOND)
    other = others()

    def stage() -> None:
        with other.transaction():
            staging.stage(other, chain.store, Manifest.read(chain.store, SECOND))
            ledger.set_state(other, SECOND, "audited")

    beside = threading.Thread(target=stage)

    class Publisher(Warehouse):
        """A session in whose publication somebody begins to stage."""

        def run(self, sql: str, **parameters: Any) -> int:
            count = super().run(sql, **parameters)
            if sql.startswith("update ops.slice_partition") and beside.ident is None:
                beside.start()
                beside.join(1)
                assert beside.is_alive(), "it did not wait"
            return count

    publication(chain, FIRST, Publisher(others().connection))
    beside.join(60)
    assert not beside.is_alive(), "it waits for ever"
    chain.publish(SECOND)
    assert chain.content() == expected
    assert chain.is_balanced()


def test_dead_publishers_transaction_is_undone_and_the_next_publisher_goes_on(
    chain: Chain, snowflake: Snowflake, others: Callable[[], Warehouse]
) -> None:
    expected = staged_pair(chain, SECOND, FIRST)
    hours = Manifest.read(chain.store, FIRST).hours()[FIRST]
    command = [sys.executable, "-m", "tests.pipeline.publisher", str(snowflake.port), FIRST, *hours]
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    worker = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        assert any(line == b"published\n" for line in worker.stdout)
    finally:
        worker.kill()
        worker.communicate()
    assert chain.state(FIRST) == "audited"
    publication(chain, SECOND, others())
    publication(chain, FIRST, others())
    assert chain.content() == expected
    assert chain.is_balanced()


@pytest.mark.parametrize("lock", ["plan", "publish"])
def test_lock_that_is_not_let_go_is_named_and_a_retry_gets_it(
    chain: Chain, others: Callable[[], Warehouse], lock: str
) -> None:
    chain.send(0, order("A"))
    chain.staged(FIRST)
    holder, waiting = others(), others()
    waiting.run("alter session set lock_timeout = 1")
    holder.run("begin")
    ledger.take_lock(holder, lock, "somebody")  # type: ignore[arg-type]
    before = chain.content()

    def work() -> None:
        if lock == "plan":
            chain.plan(SECOND, waiting)
        else:
            publication(chain, FIRST, waiting)

    words = rf"hour-\w+ did not get ops\.{lock}_lock: .* longer than LOCK_TIMEOUT.* retry waits again.*lock taken"
    with pytest.raises(ledger.LockTaken, match=words):
        work()
    assert chain.content() == before
    holder.run("rollback")
    work()
    assert chain.state(SECOND if lock == "plan" else FIRST) == ("planned" if lock == "plan" else "committed")


def test_lock_without_its_row_is_refused_since_nobody_would_wait_for_it(chain: Chain) -> None:
    chain.send(0, order("A"))
    with suppress(KeyError), chain.warehouse.transaction():
        chain.warehouse.run("delete from ops.plan_lock")
        with pytest.raises(RuntimeError, match=r"ops\.plan_lock has 0 rows"):
            ledger.take_lock(chain.warehouse, "plan", FIRST)
        raise KeyError  # rolls back


def test_duplicates_across_slices_and_years_are_counted_where_they_were_delivered(chain: Chain) -> None:
    old, older = order("A", "2010-12-31T23:30:00Z"), order("B", "2009-06-01T00:00:00Z")
    chain.send(0, old, older, order("C", "2011-12-09T12:00:00Z"))
    chain.run(FIRST)
    chain.send(0, order("A", "2011-12-31T23:30:00Z"), older)
    chain.run(SECOND)
    chain.send(1, old, older, order("C", "2011-12-09T00:00:00Z"), order("C", "2010-12-09T12:00:00Z"))
    chain.run(THIRD)
    assert chain.counts(FIRST)[0] == (3, 0, 3, 0, 0, 0)
    assert chain.counts(SECOND)[0] == (2, 0, 1, 1, 0, 0)
    assert chain.counts(THIRD)[1] == (4, 0, 1, 3, 0, 0)
    assert chain.is_balanced()
    before = chain.content()
    for slice_id in (FIRST, THIRD, SECOND):
        chain.publish(slice_id)
    assert chain.content() == before


def hour_hashes(warehouse: Warehouse) -> dict[tuple[str, datetime], Any]:
    """(table, hour) -> hash of its rows, for every hour mart and every table of facts."""
    found = {}
    for schema in ("core", "marts"):
        columns = warehouse.rows(
            "select table_name, column_name from information_schema.columns "
            "where table_schema = :schema and column_name in ('EVENT_HOUR', 'ORDER_HOUR', 'SESSION_HOUR')",
            schema=schema.upper(),
        )
        for column in columns:
            table, hour = f"{schema}.{column['table_name']}".lower(), column["column_name"].lower()
            for row in warehouse.rows(f"select {hour} as at, hash_agg(*) as h from {table} group by {hour}"):
                found[table, row["at"]] = row["h"]
    return found


def test_hours_that_a_slice_does_not_touch_stay_as_they_are(chain: Chain) -> None:
    chance = random.Random(5)

    def some(count: int, name: str) -> None:
        for number in range(count):
            event_id = f"{name}{number}"
            chain.send(0, market_events.value(market_events.movement(chance, event_id)), topic="inventory.movements")
            chain.send(0, market_events.value(market_events.reading(chance, event_id)), topic="iot.readings")
            chain.send(0, order(event_id, market_events.moment(chance)))

    some(40, "a")
    chain.run(FIRST)
    before = hour_hashes(chain.warehouse)
    some(5, "b")
    chain.run(SECOND)
    touched = set(publish.touched_hours(chain.warehouse, [SECOND]))
    after = hour_hashes(chain.warehouse)
    changed = {key[1].isoformat() for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == touched
    untouched = {key for key in before if key[1].isoformat() not in touched}
    assert len(untouched) > 50
    assert len({table for table, _ in untouched}) >= 8


def test_held_slice_that_is_published_later_gives_what_it_would_have_given_in_turn(chain: Chain) -> None:
    chain.send(0, order("A", "2011-01-04T08:00:00Z"), b"junk")
    chain.staged(FIRST)
    chain.send(0, order("B", "2011-01-04T08:30:00Z"), order("C", "2011-01-04T11:00:00Z"))
    chain.staged(SECOND)
    chain.publish(FIRST)
    chain.publish(SECOND)
    expected = chain.content("core", "marts")
    with chain.warehouse.transaction():
        for schema in ("core", "marts"):
            for table in chain.content(schema):
                chain.warehouse.run(f"delete from {table}")
        chain.warehouse.run("update ops.slice set state = 'audited'")
    ledger.set_state(chain.warehouse, FIRST, "held")
    chain.publish(SECOND)
    with pytest.raises(publish.PublishFault, match=f"slice {FIRST} is held"):
        chain.publish(FIRST)
    chain.stage(FIRST)
    chain.publish(FIRST)
    assert chain.content("core", "marts") == expected
    assert chain.is_balanced()


class Recorder(Warehouse):
    """A session that keeps what it sends."""

    def __init__(self, session: Warehouse) -> None:
        super().__init__(session.connection)
        self.sent: list[str] = []

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        self.sent.append(sql)
        return super().rows(sql, **parameters)

    def run(self, sql: str, **parameters: Any) -> int:
        self.sent.append(sql)
        return super().run(sql, **parameters)


def test_every_statement_from_begin_to_commit_is_dml_or_a_query(chain: Chain, others: Callable[[], Warehouse]) -> None:
    chain.send(0, order("A"), b"junk")
    recorder = Recorder(others())
    chain.plan(FIRST, recorder)
    chain.transform(FIRST)
    chain.stage(FIRST)
    publication(chain, FIRST, recorder)
    publish.roll_up(recorder, ["2011-01-04"])
    inside = [sql for sql in recorder.sent if sql not in ("begin", "commit")]
    assert recorder.sent.count("begin") == recorder.sent.count("commit") == 3
    assert len(inside) > 50
    for sql in inside:
        assert isinstance(sqlglot.parse_one(sql, dialect="snowflake"), DML_OR_QUERY), sql
    assert chain.log[TOPIC, 0]
