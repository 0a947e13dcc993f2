"""What an alert asks for is done once, whoever does it and however often it is tried."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from include.alerts import alert_id
from madhatter import response
from madhatter.warehouse import Warehouse
from tests.stand_ins import Snowflake

TABLES = ("alert", "held_order", "reorder_draft", "incident")


@pytest.fixture
def warehouse(snowflake: Snowflake) -> Iterator[Warehouse]:
    own = snowflake.open()
    for table in TABLES:
        own.run(f"delete from ops.{table}")
    own.run("delete from marts.stock_cover")
    yield own
    own.close()


def book(warehouse: Warehouse, subject: str, action: str, state: str = "open", **details: Any) -> str:
    """An alert as alert_book writes it; returns its id."""
    own = alert_id("test", subject, action)
    warehouse.run(
        "insert into ops.alert (alert_id, source, kind, severity, subject, title, reasons, action, state, details, "
        "raised_ts, booked_ts) select :id, 'test', 'test', 'critical', :subject, :title, '[]', :action, :state, "
        ":details, sysdate(), sysdate()",
        id=own,
        subject=subject,
        title=f"Look at {subject}",
        action=action,
        state=state,
        details=json.dumps(details),
    )
    return own


def rows(warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    return warehouse.rows(f"select * from ops.{table} order by alert_id")


def test_each_action_is_done_and_its_alert_acknowledged(warehouse: Warehouse) -> None:
    fraud = book(warehouse, "customer:1", "hold_order", order_ids=["A2", "A1", "A2"])
    stock = book(
        warehouse, "shelf:LEEDS/85123A", "draft_reorder", warehouse_id="LEEDS", product_id="85123A", quantity=40
    )
    failure = book(warehouse, "dag:retail_hourly/audit", "open_incident")
    told = book(warehouse, "sensor:7", "none")
    assert sorted(response.respond(warehouse, "run 1")) == sorted([fraud, stock, failure])
    held = rows(warehouse, "held_order")
    assert sorted(row["order_id"] for row in held) == ["A1", "A2"]
    assert {(row["alert_id"], row["state"], row["reason"], row["held_by"]) for row in held} == {
        (fraud, "held", "Look at customer:1", "run 1")
    }
    (draft,) = rows(warehouse, "reorder_draft")
    assert [draft[name] for name in ("alert_id", "warehouse_id", "product_id", "quantity", "state")] == [
        stock,
        "LEEDS",
        "85123A",
        40,
        "draft",
    ]
    (incident,) = rows(warehouse, "incident")
    assert (incident["alert_id"], incident["severity"], incident["state"]) == (failure, "critical", "open")
    by_id = {row["alert_id"]: row for row in rows(warehouse, "alert")}
    assert by_id.pop(told)["state"] == "open"
    assert {(row["state"], row["handled_by"], row["acknowledged_ts"] is None) for row in by_id.values()} == {
        ("acknowledged", "run 1", False)
    }


def test_second_response_does_nothing(warehouse: Warehouse) -> None:
    book(warehouse, "customer:1", "hold_order", order_ids=["A1"])
    response.respond(warehouse, "run 1")
    before = {table: rows(warehouse, table) for table in TABLES}
    assert response.respond(warehouse, "run 2") == []
    assert {table: rows(warehouse, table) for table in TABLES} == before


def test_response_that_breaks_off_leaves_nothing_and_the_next_one_does_it(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = book(warehouse, "shelf:LEEDS/1", "draft_reorder", warehouse_id="LEEDS", product_id="1", quantity=1)
    book(warehouse, "customer:1", "hold_order", order_ids=["A1"])

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("the worker is gone")

    with monkeypatch.context() as patch:
        patch.setattr(response, "shelf_of", refuse)
        with pytest.raises(ConnectionError):
            response.respond(warehouse, "run 1")
    assert rows(warehouse, "held_order") == rows(warehouse, "reorder_draft") == []
    assert {row["handled_ts"] for row in rows(warehouse, "alert")} == {None}
    assert own in response.respond(warehouse, "run 2")
    assert len(rows(warehouse, "held_order")) == len(rows(warehouse, "reorder_draft")) == 1


def test_many_at_once_do_each_alert_once(warehouse: Warehouse, snowflake: Snowflake) -> None:
    ids = [book(warehouse, f"customer:{n}", "hold_order", order_ids=[f"A{n}"]) for n in range(150)]
    done: list[str] = []

    def run(name: str) -> None:
        own = snowflake.open()
        done.extend(response.respond(own, name))
        own.close()

    threads = [threading.Thread(target=run, args=(f"run {n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(ids)
    assert sorted(row["alert_id"] for row in rows(warehouse, "held_order")) == sorted(ids)


def test_alert_that_does_not_say_what_to_hold_is_an_incident(warehouse: Warehouse) -> None:
    ids = {
        book(warehouse, "customer:1", "hold_order"),
        book(warehouse, "customer:2", "hold_order", order_ids="A1"),
        book(warehouse, "product:85123A", "draft_reorder", product_id="85123A"),
    }
    response.respond(warehouse, "run 1")
    assert {row["alert_id"] for row in rows(warehouse, "incident")} == ids
    assert rows(warehouse, "held_order") == rows(warehouse, "reorder_draft") == []


def test_draft_without_a_quantity_takes_what_the_mart_proposes(warehouse: Warehouse) -> None:
    warehouse.run(
        "insert into marts.stock_cover (warehouse_id, product_id, proposed_units, reorder_point) "
        "select 'LEEDS', 'A', 24, 10 union all select 'LEEDS', 'B', 0, 7"
    )
    for product in ("A", "B", "C"):
        book(warehouse, f"shelf:LEEDS/{product}", "draft_reorder", warehouse_id="LEEDS", product_id=product)
    response.respond(warehouse, "run 1")
    assert {row["product_id"]: row["quantity"] for row in rows(warehouse, "reorder_draft")} == {"A": 24, "B": 7, "C": 0}


def test_shelf_has_one_open_draft_of_the_most_that_any_alert_asked_for(warehouse: Warehouse) -> None:
    def ask(product: str, occasion: int, quantity: int) -> str:
        subject = f"shelf:LEEDS/{product} {occasion}"
        place = {"warehouse_id": "LEEDS", "product_id": product}
        return book(warehouse, subject, "draft_reorder", **place, quantity=quantity)

    def drafts() -> set[tuple[Any, ...]]:
        return {(row["product_id"], row["quantity"], row["state"]) for row in rows(warehouse, "reorder_draft")}

    at_once = {ask("A", 1, 15), ask("A", 2, 20), ask("B", 1, 15)}
    assert set(response.respond(warehouse, "run 1")) == at_once
    assert len(rows(warehouse, "reorder_draft")) == 2
    assert drafts() == {("A", 20, "draft"), ("B", 15, "draft")}
    later = {ask("A", 3, 25), ask("B", 2, 4)}
    assert set(response.respond(warehouse, "run 2")) == later
    assert len(rows(warehouse, "reorder_draft")) == 2
    assert drafts() == {("A", 25, "draft"), ("B", 15, "draft")}
    warehouse.run("update ops.reorder_draft set state = 'ordered' where product_id = 'A'")
    ask("A", 4, 30)
    response.respond(warehouse, "run 3")
    assert drafts() == {("A", 25, "ordered"), ("A", 30, "draft"), ("B", 15, "draft")}


def test_resolved_alert_needs_no_response(warehouse: Warehouse) -> None:
    book(warehouse, "dag:retail_daily/roll_up", "open_incident", state="resolved")
    assert response.respond(warehouse, "run 1") == []


def test_alert_that_comes_back_opens_an_incident_when_the_one_before_is_closed(warehouse: Warehouse) -> None:
    book(warehouse, "dag:retail_daily/roll_up", "open_incident")
    response.respond(warehouse, "run 1")
    again = "update ops.alert set state = 'open', handled_ts = null, handled_by = null"
    warehouse.run(again)
    response.respond(warehouse, "run 2")
    assert len(rows(warehouse, "incident")) == 1
    warehouse.run("update ops.incident set state = 'closed', closed_ts = sysdate()")
    warehouse.run(again)
    response.respond(warehouse, "run 3")
    assert len(rows(warehouse, "incident")) == 2


def test_ids_that_are_not_booked_are_known(warehouse: Warehouse) -> None:
    own = book(warehouse, "customer:1", "hold_order", order_ids=["A1"])
    other = alert_id("test", "customer:2", "")
    assert response.not_booked(warehouse, [own, other]) == [other]
    assert response.not_booked(warehouse, []) == []
