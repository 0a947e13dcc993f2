"""An hour of the simulated market, published and reconciled with the simulator's account to the last event."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include import references
from include.beam import hourly
from include.beam.plan import Manifest, Plan, cut
from include.contracts.contract import topics
from local.simulator import batch, shop
from local.simulator.account import Account
from local.simulator.market import Market
from local.simulator.pace import Pace
from madhatter import kafka, ledger, publish, slices, staging
from madhatter.warehouse import Warehouse
from tests.stand_ins import Broker, Snowflake
from tests.truth import Truth, read_log

SLICE = "hour-20260105t120000"
EVENTS_PER_S, TRADE = 12, 20.0  # orders at twenty times the history's pace, so that an hour has some of everything
MIDNIGHT, NOON = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 5, 12, tzinfo=UTC)

# Columns of each core table, as the messages say them.
CONTENT = {
    "order_header": (
        "sales.orders",
        "event ->> 'order_id' as order_id, event ->> 'order_type' as order_type, "
        "event ->> 'customer_id' as customer_id, event ->> 'country' as country, event ->> 'channel' as channel, "
        "event ->> 'session_id' as session_id",
        "message",
    ),
    "order_line": (
        "sales.orders",
        "event ->> 'order_id' as order_id, (part ->> 'line_no')::int as line_no, part ->> 'product_id' as product_id, "
        "(part ->> 'quantity')::int as quantity, (part ->> 'unit_price')::decimal(12, 3) as unit_price",
        "(select *, unnest(cast(event -> 'lines' as json[])) as part from message)",
    ),
    "payment": (
        "sales.orders",
        "event ->> 'order_id' as order_id, (part ->> 'payment_no')::int as payment_no, part ->> 'outcome' as outcome, "
        "(part ->> 'amount')::decimal(18, 4) as amount, part ->> 'card_hash' as card_hash",
        "(select *, unnest(cast(event -> 'payments' as json[])) as part from message)",
    ),
    "interaction": (
        "web.interactions', 'mobile.interactions",
        "event ->> 'visitor_id' as visitor_id, event ->> 'interaction_type' as interaction_type, "
        "coalesce(event ->> 'page', event ->> 'screen') as page, (event ->> 'page_load_ms')::int as page_load_ms, "
        "event ->> 'product_id' as product_id, event ->> 'error' as error_code, event ->> 'referrer' as referrer",
        "message",
    ),
    "inventory_movement": (
        "inventory.movements",
        "event ->> 'warehouse_id' as warehouse_id, event ->> 'product_id' as product_id, "
        "event ->> 'movement_type' as movement_type, (event ->> 'quantity')::int as quantity",
        "message",
    ),
    "sensor_reading": (
        "iot.readings",
        "event ->> 'device_id' as device_id, (event ->> 'reading')::decimal(12, 3) as reading, "
        "(event ->> 'battery_percent')::int as battery_percent",
        "message",
    ),
    "support_ticket": (
        "support.tickets",
        "event ->> 'ticket_id' as ticket_id, event ->> 'action' as step, event ->> 'text' as message, "
        "(event ->> 'satisfaction')::int as satisfaction",
        "message",
    ),
    "product_change": (
        "catalog.products",
        "event ->> 'product_id' as product_id, (event ->> 'list_price')::decimal(12, 3) as list_price, "
        "event ->> 'category' as category, event ->> 'change_type' as change_type",
        "message",
    ),
    "customer_change": (
        "crm.customers",
        "event ->> 'customer_id' as customer_id, event ->> 'loyalty_tier' as loyalty_tier, "
        "event ->> 'country' as country",
        "message",
    ),
    "customer_contact": (
        "crm.customers",
        "event ->> 'customer_id' as customer_id, event -> 'contact' ->> 'email' as email_address",
        "(select * from message where json_type(event, '$.contact') = 'OBJECT')",
    ),
}
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
    """The truth about one published hour of the market, sent to a broker of its own."""
    folder = tmp_path_factory.mktemp("hour")
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker")
    broker.start()
    try:
        kafka.create_topics(broker.admin, topics())
        market = Market(shop.load(), Pace(7, EVENTS_PER_S, TRADE))
        # Prices change shortly after midnight; by noon people buy.
        times = [int(time.timestamp() * 1000) for time in (MIDNIGHT, NOON)]
        parts = (part for begin in times for part in batch.pieces(market, begin, begin + 1_800_000))
        sent = batch.send(broker.bootstrap, parts, account=Account(folder / "account"))
        truth = Truth(read_log(broker.bootstrap, list(topics()), folder / "log.parquet"), folder / "account")
        assert truth.rows("select count(*) from message") == [(sent.events,)]
        run(broker, warehouse, folder / "store")
    finally:
        broker.end()
    columns = "topic, partition, offset"
    truth.load("event", warehouse.rows(f"select {columns} from ops.event where slice_id = '{SLICE}'"))
    truth.load("dead", warehouse.rows(f"select {columns}, reason from ops.dead_letter where slice_id = '{SLICE}'"))
    return truth


def run(broker: Broker, warehouse: Warehouse, store: Path) -> None:
    """All of the topics as one slice."""
    now = datetime.now(UTC)
    log = kafka.read_log(broker.admin, topics(), now + timedelta(hours=1))
    planned = ledger.plan(warehouse, SLICE, "hour", (now, now), lambda _: slices.claim(log, {}))
    chunks = tuple(k for c in planned.claims for k in cut(c.topic, c.partition, c.start, c.end, 10_000))
    uri = Plan(SLICE, store.as_uri(), chunks, references.pin(store.as_uri())).write()
    hourly.main(["--plan", uri, "--bootstrap_servers", broker.bootstrap, "--runner=FnApiRunner"])
    manifest = Manifest.read(store.as_uri(), SLICE)
    with warehouse.transaction():
        staging.stage(warehouse, store.as_uri(), manifest)
        ledger.set_state(warehouse, SLICE, "audited")
    with warehouse.transaction():
        publish.publish(warehouse, SLICE, manifest.hours())


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
    rows = warehouse.rows(f"select * from ops.slice_partition where slice_id = '{SLICE}'")
    found = {
        (r["topic"], r["partition"]): (r["delivered"], r["published"], r["duplicates"], r["dead_letters"]) for r in rows
    }
    expected = hour.rows(
        """
        select topic, partition, count(*), count(*) filter (outcome = 'published'),
            count(*) filter (outcome = 'duplicate'), count(*) filter (outcome = 'dead letter')
        from expected group by all
        """
    )
    assert {place: counts for place, counts in found.items() if counts[0]} == {row[:2]: row[2:] for row in expected}


@pytest.mark.parametrize("table", CONTENT)
def test_core_has_what_the_messages_say(hour: Truth, warehouse: Warehouse, table: str) -> None:
    names, columns, source = CONTENT[table]
    hour.db.execute(
        f"""
        create or replace table truth as
        select event_id, event_ts, {columns} from {source} join expected using (topic, partition, "offset")
        where topic in ('{names}') and outcome = 'published'
        """
    )
    listed = ", ".join(column for column, *_ in hour.rows("describe truth"))
    rows = warehouse.rows(f"select {listed} from core.{table} where slice_id = '{SLICE}'")
    assert rows, "an hour of the market has rows of every table"
    hour.load("core", rows)
    assert hour.rows("select count(*) from truth") == [(len(rows),)]
    assert hour.rows(f"select {listed} from truth except all select {listed} from core limit 3") == []
