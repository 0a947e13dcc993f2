"""What comes late or goes again moves exactly what it touches: versions, sessions and the marts of their hours."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from madhatter import publish
from tests.pipeline import market_events
from tests.pipeline.chain import Chain, order

PRODUCTS, CUSTOMERS, TICKETS = "catalog.products", "crm.customers", "support.tickets"
BEGIN, END = datetime(1900, 1, 1), datetime(9999, 12, 31)


def test_late_change_is_placed_between_the_versions_around_it_and_moves_the_sales_since(chain: Chain) -> None:
    def change(number: int, event_ts: str, category: str) -> bytes:
        event = market_events.product_change(random.Random(1), f"p{number}")
        return market_events.value(event | {"event_ts": event_ts, "category": category, "product_id": "22752"})

    chain.send(0, change(1, "2011-01-03T00:00:00Z", "OLD"), topic="catalog.products")
    chain.send(0, order("A", "2011-01-04T08:30:00Z"), order("B", "2011-01-04T10:30:00Z"))
    chain.run("hour-1")
    chain.send(0, change(2, "2011-01-04T10:00:00Z", "NEW"), topic="catalog.products")
    chain.run("hour-2")
    rows = chain.warehouse.rows("select * from core.product order by valid_from_ts")
    ten = datetime(2011, 1, 4, 10)
    assert [(r["category"], r["valid_from_ts"], r["valid_to_ts"]) for r in rows] == [
        ("OLD", BEGIN, ten),
        ("NEW", ten, END),
    ]
    sales = chain.warehouse.rows("select order_hour, category from marts.sales_category_hourly order by order_hour")
    assert [(r["order_hour"].hour, r["category"]) for r in sales] == [(8, "OLD"), (10, "NEW")]
    assert publish.touched_hours(chain.warehouse, ["hour-2"]) == ["2011-01-04T10:00:00"]


def test_removed_event_splits_its_session_again(chain: Chain) -> None:
    base = market_events.interaction(random.Random(1), "x", "web") | {"visitor_id": "v", "country": "France"}
    times = {"a": "10:00", "b": "10:25", "c": "10:50", "d": "11:15"}
    for name, time in times.items():
        value = market_events.value(base | {"event_id": name, "event_ts": f"2011-01-04T{time}:00Z"})
        chain.send(0, value, topic="web.interactions")
        chain.run(f"hour-{name}")
    (whole,) = chain.warehouse.rows("select * from marts.session")
    assert (whole["start_ts"].minute, whole["end_ts"].minute, whole["interactions"]) == (0, 15, 4)
    chain.warehouse.run("insert into ops.erased (event_id) values ('b')")
    chain.publish("hour-b")
    rows = chain.warehouse.rows("select * from marts.session order by start_ts")
    assert [(r["start_ts"].minute, r["interactions"]) for r in rows] == [(0, 1), (50, 2)]
    funnel = chain.warehouse.rows("select * from marts.funnel_hourly")
    assert sum(row["sessions"] for row in funnel) == 2


def test_correction_that_takes_back_a_change_moves_the_sales_back(chain: Chain) -> None:
    def change(number: int, event_ts: str, category: str) -> bytes:
        event = market_events.product_change(random.Random(1), f"p{number}")
        return market_events.value(event | {"event_ts": event_ts, "category": category, "product_id": "22752"})

    chain.send(0, change(1, "2011-01-03T00:00:00Z", "A"), change(2, "2011-01-04T10:00:00Z", "B"), topic=PRODUCTS)
    chain.send(0, order("A", "2011-01-04T10:30:00Z"))
    chain.run("hour-1")
    chain.send(0, change(3, "2011-01-04T10:00:00Z", "A"), topic=PRODUCTS)
    chain.run("hour-2")
    (version,) = chain.warehouse.rows("select * from core.product")
    (sales,) = chain.warehouse.rows("select category from marts.sales_category_hourly")
    assert (version["category"], sales["category"]) == ("A", "A")


def test_late_twin_of_an_erased_event_is_erased_too(chain: Chain) -> None:
    chain.send(0, order("A"), order("B"))
    chain.run("hour-1")
    chain.warehouse.run("insert into ops.erased (event_id) values ('order:A')")
    chain.send(0, order("A"), order("C"))
    chain.run("hour-2")
    assert chain.counts("hour-2")[0] == (2, 0, 1, 0, 0, 1)
    chain.publish("hour-1")
    assert chain.counts("hour-1")[0] == (2, 0, 1, 0, 0, 1)
    assert chain.is_balanced()


def test_change_of_a_customer_that_comes_late_moves_the_sales_by_tier_since(chain: Chain) -> None:
    def change(number: int, event_ts: str, tier: str) -> bytes:
        event = market_events.customer_change(random.Random(1), f"c{number}")
        return market_events.value(event | {"event_ts": event_ts, "loyalty_tier": tier, "customer_id": "17850"})

    tiers = "select order_hour, loyalty_tier from marts.sales_loyalty_hourly order by order_hour, loyalty_tier"
    chain.send(0, order("A", "2011-01-04T08:30:00Z"), order("B", "2011-01-04T10:30:00Z"))
    chain.send(0, order("C", "2011-01-04T10:30:00Z", customer_id=None))
    chain.run("hour-1")
    rows = chain.warehouse.rows(tiers)
    assert [(r["order_hour"].hour, r["loyalty_tier"]) for r in rows] == [(8, "unknown"), (10, "guest"), (10, "unknown")]
    chain.send(
        0, change(1, "2011-01-03T00:00:00Z", "silver"), change(2, "2011-01-04T10:00:00Z", "gold"), topic=CUSTOMERS
    )
    chain.run("hour-2")
    rows = chain.warehouse.rows(tiers)
    assert [(r["order_hour"].hour, r["loyalty_tier"]) for r in rows] == [(8, "silver"), (10, "gold"), (10, "guest")]
    # What the marts do not take from a customer touches no hour.
    event = market_events.customer_change(random.Random(1), "c3") | {"customer_id": "17850", "loyalty_tier": "gold"}
    moved = event | {"event_ts": "2011-01-05T00:00:00Z", "country": "Spain"}
    chain.send(0, market_events.value(moved), topic=CUSTOMERS)
    chain.run("hour-3")
    assert publish.touched_hours(chain.warehouse, ["hour-3"]) == ["2011-01-05T00:00:00"]


def test_erased_change_leaves_its_dimension_also_when_it_made_no_version(chain: Chain) -> None:
    def change(number: int, event_ts: str, category: str) -> bytes:
        event = market_events.product_change(random.Random(1), f"p{number}")
        return market_events.value(event | {"event_ts": event_ts, "category": category, "product_id": "22752"})

    chain.send(0, change(1, "2011-01-03T00:00:00Z", "A"), change(2, "2011-01-04T10:00:00Z", "B"), topic=PRODUCTS)
    chain.run("hour-1")
    chain.send(0, change(3, "2011-01-04T10:00:00Z", "A"), topic=PRODUCTS)  # takes the place of B: one version, A
    chain.run("hour-2")
    chain.warehouse.run("insert into ops.erased (event_id) values ('p3')")
    chain.publish("hour-2")
    rows = chain.warehouse.rows("select category from core.product order by valid_from_ts")
    assert [row["category"] for row in rows] == ["A", "B"]


def test_slice_may_touch_more_hours_than_a_statement_can_name(chain: Chain) -> None:
    first = datetime(1980, 1, 1)
    hours = [(first + timedelta(hours=number)).isoformat() for number in range(60_000)]
    chain.send(0, order("A", "2011-01-04T10:30:00Z"))
    chain.run("hour-1")
    with chain.warehouse.transaction():
        publish.compute_hours(chain.warehouse, [*hours, "2011-01-04T10:00:00"])
    (sales,) = chain.warehouse.rows("select * from marts.sales_hourly")
    (touched,) = chain.warehouse.rows("select count(*) as n from staging.touched_hour")
    assert (sales["orders"], touched["n"]) == (1, 60_001)


def ticket(ticket_id: str, number: int, action: str, event_ts: str) -> bytes:
    event = market_events.ticket(random.Random(1), f"{ticket_id}-{number}") | {"reason": "late", "satisfaction": None}
    return market_events.value(event | {"ticket_id": ticket_id, "action": action, "event_ts": event_ts})


def test_answer_that_comes_days_later_or_is_taken_back_moves_the_day_of_the_question(chain: Chain) -> None:
    def figures() -> list[tuple[object, ...]]:
        rows = chain.warehouse.rows("select * from marts.support_daily order by opened_date")
        names = ("opened", "answered", "answered_in_time", "answer_p50_min", "closed", "open_at_day_end")
        return [(row["opened_date"].day, *(row[name] for name in names)) for row in rows]

    chain.send(
        0,
        ticket("A", 1, "opened", "2011-01-04T10:00:00Z"),
        ticket("A", 2, "closed", "2011-01-04T23:00:00Z"),
        ticket("B", 1, "opened", "2011-01-04T23:30:00Z"),
        topic=TICKETS,
    )
    chain.run("hour-1")
    publish.roll_up(chain.warehouse, ["2011-01-04"])
    assert figures() == [(4, 2, 0, 0, None, 1, 1)]
    chain.send(
        0,
        ticket("B", 2, "answered", "2011-01-05T03:30:00Z"),  # in time: after exactly four hours
        ticket("B", 3, "closed", "2011-01-06T09:00:00Z"),  # of a day that goes on
        topic=TICKETS,
    )
    chain.run("hour-2")
    publish.roll_up(chain.warehouse, ["2011-01-05"])
    assert figures() == [(4, 2, 1, 1, 240, 1, 1)]
    chain.send(0, ticket("A", 3, "answered", "2011-01-04T11:00:00Z"), topic=TICKETS)  # a day late
    chain.run("hour-3")
    publish.roll_up(chain.warehouse, ["2011-01-04"])
    assert figures() == [(4, 2, 2, 2, 150, 1, 1)]
    chain.warehouse.run("insert into ops.erased (event_id) values ('B-2')")
    chain.publish("hour-2")
    publish.roll_up(chain.warehouse, ["2011-01-05", "2011-01-06"])
    assert figures() == [(4, 2, 1, 1, 60, 2, 1)]


def test_ticket_that_is_opened_again_within_thirty_days_goes_on(chain: Chain) -> None:
    chain.send(
        0,
        ticket("A", 1, "opened", "2011-01-04T10:00:00Z"),
        ticket("A", 2, "opened", "2011-02-03T09:59:59Z"),
        ticket("A", 3, "answered", "2011-02-03T10:00:00Z"),  # thirty days after: no answer any more
        ticket("A", 4, "opened", "2011-03-05T10:00:00Z"),
        ticket("A", 5, "answered", "2011-03-05T11:00:00Z"),
        topic=TICKETS,
    )
    chain.run("hour-1")
    for day in ("2011-01-04", "2011-02-03", "2011-03-05"):
        publish.roll_up(chain.warehouse, [day])
    rows = chain.warehouse.rows("select opened_date, opened, answered from marts.support_daily order by opened_date")
    assert [(row["opened_date"].month, row["opened"], row["answered"]) for row in rows] == [(1, 1, 0), (3, 1, 1)]


def test_correction_of_an_old_day_leaves_the_newest_day_as_the_one_that_counts(chain: Chain) -> None:
    chain.send(0, order("A", "2011-01-04T08:30:00Z"), order("B", "2011-01-06T08:30:00Z", customer_id="13047"))
    chain.run("hour-1")
    publish.roll_up(chain.warehouse, ["2011-01-04", "2011-01-06"])
    chain.send(0, order("C", "2011-01-04T09:30:00Z"), order("D", "2011-01-07T08:30:00Z"))
    chain.run("hour-2")
    publish.roll_up(chain.warehouse, ["2011-01-04"])
    rows = chain.warehouse.rows("select * from marts.customer_segment order by customer_id")
    found = [(row["as_of_date"].day, row["customer_id"], row["recency_days"], row["orders"]) for row in rows]
    assert found == [(6, "13047", 0, 1), (6, "17850", 2, 2)]
