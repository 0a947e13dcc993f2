"""Two half hours of the simulated market, published as two slices and reconciled with the simulator's account to the
last event, by kind and by content.

MADHATTER_ACCOUNT_EVENTS says how many events; 50,000 by default, a million fill the hour that the platform is made for.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include import references
from include.beam import hourly
from include.beam.plan import Manifest, Plan, cut
from include.contracts.contract import Model, models, topics
from local.simulator import batch, shop
from local.simulator.account import Account
from local.simulator.market import Market
from local.simulator.pace import DEFAULT_RATE, Pace
from madhatter import kafka, ledger, publish, slices, staging
from madhatter.warehouse import Warehouse
from tests import content
from tests.stand_ins import Broker, Snowflake
from tests.truth import Truth, read_log

EVENTS = int(os.environ.get("MADHATTER_ACCOUNT_EVENTS", "50000"))
HALF = timedelta(minutes=30)
RATE = 1.05 * EVENTS / (2 * HALF.total_seconds())  # the market's hours differ a little
# Orders at twenty times the history's pace at least, so that an hour has some of everything.
PACE = Pace(7, RATE, max(20.0, RATE / DEFAULT_RATE))
# Prices change shortly after midnight; by noon people buy.
MIDNIGHT, NOON = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICES = {"hour-20260105t000000": MIDNIGHT, "hour-20260105t120000": NOON}
OWN = "slice_id in ({})".format(", ".join(f"'{slice_id}'" for slice_id in SLICES))

# The slice of an event, by when it was sent.
SLICE = f"if(send_ts < '{NOON:%Y-%m-%d %H:%M:%S}', 'hour-20260105t000000', 'hour-20260105t120000')"

REASONS = {
    "malformed:cut": "not JSON: ",
    "malformed:wrong_type": r"^(Expected `\w+`, got `\w+`|Invalid decimal string) at `\w+",
    "malformed:unknown_enum": "Invalid enum value 'unheard-of'",
    "malformed:bad_encoding": "not UTF-8: ",
    "malformed:huge": "Expected `str` of length <= 64 at `event_id`",
    "skewed_beyond": "ahead of its arrival",
}


@pytest.fixture(scope="module")
def warehouse(snowflake: Snowflake) -> Iterator[Warehouse]:
    session = snowflake.open()
    yield session
    session.close()


@pytest.fixture(scope="module")
def hour(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The truth about the market's two half hours, sent to a broker of their own, each published when it was sent."""
    folder = tmp_path_factory.mktemp("hour")
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker")
    broker.start()
    try:
        kafka.create_topics(broker.admin, topics())
        market = Market(shop.load(), PACE)
        claimed: dict[slices.Place, slices.Claim] = {}
        sent = 0
        for slice_id, start in SLICES.items():
            begin = int(start.timestamp() * 1000)
            parts = batch.pieces(market, begin, begin + int(HALF.total_seconds() * 1000))
            sent += batch.send(broker.bootstrap, parts, account=Account(folder / "account")).events
            claims = run(broker, warehouse, folder / "store", slice_id, claimed)
            claimed = {(claim.topic, claim.partition): claim for claim in claims}
        truth = Truth(read_log(broker.bootstrap, list(topics()), folder / "log.parquet"), folder / "account")
    finally:
        broker.end()
    assert sent >= EVENTS
    assert truth.rows("select count(*) from message") == [(sent,)]
    columns = "topic, partition, offset"
    truth.load("event", warehouse.rows(f"select {columns} from ops.event where {OWN}"))
    truth.load("dead", warehouse.rows(f"select {columns}, reason from ops.dead_letter where {OWN}"))
    return truth


def run(
    broker: Broker, warehouse: Warehouse, store: Path, slice_id: str, claimed: dict[slices.Place, slices.Claim]
) -> tuple[slices.Claim, ...]:
    """All that has come since the claimed as one slice; returns its claims."""
    log = kafka.read_log(broker.admin, topics(), datetime.now(UTC) + timedelta(hours=1))
    window = (SLICES[slice_id], SLICES[slice_id] + timedelta(hours=1))
    planned = ledger.plan(warehouse, slice_id, "hour", window, lambda _: slices.claim(log, claimed))
    chunks = tuple(k for c in planned.claims for k in cut(slice_id, c.topic, c.partition, c.start, c.end, 10_000))
    uri = Plan(slice_id, store.as_uri(), chunks, references.pin(store.as_uri())).write()
    hourly.main(["--plan", uri, "--bootstrap_servers", broker.bootstrap, "--runner=FnApiRunner"])
    manifest = Manifest.read(store.as_uri(), slice_id)
    with warehouse.transaction():
        staging.stage(warehouse, store.as_uri(), manifest)
        ledger.set_state(warehouse, slice_id, "audited")
    with warehouse.transaction():
        publish.publish(warehouse, slice_id, {slice_id: manifest.hours().get(slice_id, [])})
    return planned.claims


def test_every_event_became_what_the_account_says(hour: Truth) -> None:
    wrong = hour.rows(
        """
        select topic, partition, "offset", kind, outcome, found from (
            select expected.*, case when event.topic is not null then 'published'
                when dead.topic is not null then 'dead letter' else 'duplicate' end as found
            from expected
            left join event using (topic, partition, "offset")
            left join dead using (topic, partition, "offset")
        ) where found <> outcome limit 5
        """
    )
    assert wrong == []
    kinds = dict(hour.rows("select kind, count(*) from expected group by kind"))
    assert kinds.keys() >= {"normal", "late", "duplicate", "skewed", *REASONS}, kinds


def test_every_kind_of_fault_has_its_reason(hour: Truth) -> None:
    found = hour.rows('select distinct kind, reason from dead join expected using (topic, partition, "offset")')
    assert [pair for pair in found if not re.search(REASONS[pair[0]], pair[1])] == []


def test_every_partition_is_balanced(hour: Truth, warehouse: Warehouse) -> None:
    rows = warehouse.rows(
        "select topic, partition, sum(delivered) as delivered, sum(published) as published, "
        "sum(duplicates) as duplicates, sum(dead_letters) as dead_letters "
        f"from ops.slice_partition where {OWN} group by topic, partition"
    )
    expected = hour.rows(
        """
        select topic, partition, count(*), count(*) filter (outcome = 'published'),
            count(*) filter (outcome = 'duplicate'), count(*) filter (outcome = 'dead letter')
        from expected group by all
        """
    )
    found = {tuple(row.values()) for row in rows if row["delivered"]}
    assert found == set(expected)


def test_each_topic_has_as_many_of_each_kind_as_the_account(hour: Truth, warehouse: Warehouse) -> None:
    """Late is an event whose hour was over when its slice's window began: the only lateness that publishing has to deal
    with, and what `event_ts` and the slice tell. The simulator calls late what came 61 s after it happened, most of it
    still in its hour; so the account is asked by its times of sending."""
    found: Counter[tuple[str, str]] = Counter()
    for row in warehouse.rows(
        "select topic, sum(published) as published, sum(duplicates) as duplicates "
        f"from ops.slice_partition where {OWN} group by topic"
    ):
        found[row["topic"], "published"] = row["published"]
        found[row["topic"], "duplicate"] = row["duplicates"]
    for row in warehouse.rows(f"select topic, reason from ops.dead_letter where {OWN}"):
        (kind,) = (kind for kind, pattern in REASONS.items() if re.search(pattern, row["reason"]))
        found[row["topic"], kind] += 1
    for row in warehouse.rows(
        f"select topic, count(*) as late from ops.event join ops.slice using (slice_id) where {OWN} "
        "and date_trunc('hour', event_ts) < window_start group by topic"
    ):
        found[row["topic"], "late"] = row["late"]
    counts = hour.rows(
        """
        select topic, if(outcome = 'dead letter', kind, outcome), count(*) from expected group by all
        union all
        select topic, 'late', count(*) from expected
        where outcome = 'published' and date_trunc('hour', noted_ts) < date_trunc('hour', send_ts) group by all
        """
    )
    expected = {(topic, kind): count for topic, kind, count in counts}
    assert +found == expected
    assert {kind for _, kind in expected} == {"published", "duplicate", "late", *REASONS}


def test_the_late_events_are_those_that_the_account_says(hour: Truth, warehouse: Warehouse) -> None:
    hour.load(
        "late",
        warehouse.rows(
            "select topic, partition, offset from ops.event join ops.slice using (slice_id) "
            f"where {OWN} and date_trunc('hour', event_ts) < window_start"
        ),
    )
    told = """
        select topic, partition, "offset" from expected
        where outcome = 'published' and date_trunc('hour', noted_ts) < date_trunc('hour', send_ts)
    """
    assert hour.rows(f"(from late except {told}) union all ({told} except from late) limit 3") == []


@pytest.mark.parametrize("model", models(), ids=lambda model: model.table.name)
def test_core_has_what_the_messages_say(hour: Truth, warehouse: Warehouse, model: Model) -> None:
    content.truth(hour, model, "outcome = 'published'", SLICE)
    hour.db.execute("create or replace table core as from truth limit 0")
    for topic, partition in hour.rows("select distinct topic, partition from truth order by all"):
        # A partition at a time: as Python's objects a million rows take gigabytes.
        rows = warehouse.rows(
            f"select * from {model.table.core} where {OWN} and topic = :topic and partition = :partition",
            topic=topic,
            partition=partition,
        )
        assert rows, "each partition that was sent rows has some"
        assert {*rows[0]} == {column for column, *_ in hour.rows("describe truth")}, "every column is compared"
        hour.load("part", rows)
        hour.db.execute("insert into core by name from part")
    assert hour.rows("select count(*) > 0 from truth") == [(True,)], (
        "half an hour of the market has rows of every table"
    )
    counted = warehouse.rows(f"select count(*) as n from {model.table.core} where {OWN}")
    assert hour.rows("select count(*) as n from truth") == [(counted[0]["n"],)]
    assert hour.rows("from truth except all from core limit 3") == []
