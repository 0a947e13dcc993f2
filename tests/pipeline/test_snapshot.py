"""The snapshot says what the warehouse says at one moment, and where in the log that moment is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from include import storage
from include.beam import snapshot as read_by_live
from madhatter import snapshot
from tests.pipeline import market_events
from tests.pipeline.chain import Chain, order
from tests.stand_ins import Snowflake

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MOVES = snapshot.TOPIC


def move(event_id: str, kind: str, quantity: int, **more: Any) -> bytes:
    return market_events.value(
        {
            "event_id": event_id,
            "event_ts": "2011-01-04T09:00:00Z",
            "warehouse_id": "LEEDS",
            "product_id": "22752",
            "movement_type": kind,
            "quantity": quantity,
            **more,
        }
    )


def take(chain: Chain, now: datetime = NOW) -> dict[str, Any]:
    """snapshot.json, and the rows of each file."""
    uri = snapshot.take(chain.warehouse, chain.store, now)
    assert snapshot.newest(chain.store) == uri
    found = dict(storage.read_json(uri))
    folder = uri.removesuffix("/snapshot.json").removeprefix("file://")
    return found | {
        name: pq.read_table(f"{folder}/{name}.parquet").to_pylist() for name in ("customer", "product", "shelf")
    }


def test_empty_warehouse_gives_empty_files_with_their_columns(chain: Chain) -> None:
    taken = take(chain)
    assert taken["taken_ts"] == "2026-11-23T12:00:00+00:00"
    assert taken["inventory_offsets"] == {MOVES: {}}
    assert [taken[name] for name in ("customer", "product", "shelf")] == [[], [], []]
    folder = snapshot.newest(chain.store)
    assert folder is not None
    stored = pq.read_schema(folder.removeprefix("file://").replace("snapshot.json", "shelf.parquet"))
    assert [f"{field.name} {field.type}" for field in stored] == [
        "warehouse_id string",
        "product_id string",
        "stock int64",
        "reorder_point int64",
    ]


def test_customers_have_the_orders_of_the_last_year_as_whole_amounts(chain: Chain) -> None:
    chain.send(0, order("1"), order("2", quantity=4), order("3", "2009-12-01T00:00:00Z", quantity=100))
    chain.send(0, order("4", order_type="return", quantity=-1), order("5", customer_id=None))
    chain.run("hour-1")
    (customer,) = take(chain)["customer"]
    assert customer == {"customer_id": "17850", "orders": 2, "mean_amount": 22.95, "max_amount": 30.6}


def test_stock_includes_exactly_what_is_committed_up_to_its_offsets(chain: Chain) -> None:
    chain.send(0, move("a", "count", 10), move("b", "sale", -3, event_ts="2011-01-04T09:30:00Z"), topic=MOVES)
    chain.send(1, move("c", "count", 5, product_id="POST"), topic=MOVES)
    chain.run("hour-1")
    chain.warehouse.run(
        "insert into marts.stock_cover (warehouse_id, product_id, reorder_point) select 'LEEDS', 'POST', 7"
    )
    chain.send(0, move("d", "sale", -1, event_ts="2011-01-04T09:40:00Z"), topic=MOVES)
    chain.staged("hour-2")
    taken = take(chain)
    assert taken["inventory_offsets"] == {MOVES: {"0": 2, "1": 1}}
    by_product = {row["product_id"]: (row["stock"], row["reorder_point"]) for row in taken["shelf"]}
    live = read_by_live.read(snapshot.newest(chain.store) or "")
    assert live.inventory_offsets == {0: 2, 1: 1}
    assert {product: tuple(shelf) for (_, product), shelf in live.shelves.items()} == by_product
    assert by_product == {"22752": (7, None), "POST": (5, 7)}
    chain.publish("hour-2")
    taken = take(chain, NOW + timedelta(seconds=1))
    assert taken["inventory_offsets"] == {MOVES: {"0": 3, "1": 1}}
    assert [row["stock"] for row in taken["shelf"] if row["product_id"] == "22752"] == [6]


def test_products_have_todays_category(chain: Chain) -> None:
    for product, category, is_current in (("A", "Old", "false"), ("A", "New", "true"), ("B", None, "true")):
        chain.warehouse.run(
            f"insert into core.product (product_id, category, is_current) select :product, :category, {is_current}",
            product=product,
            category=category,
        )
    assert take(chain)["product"] == [
        {"product_id": "A", "category": "New"},
        {"product_id": "B", "category": "Unknown"},
    ]


def test_newest_three_are_kept_and_half_ones_go(chain: Chain) -> None:
    root = snapshot.folder(chain.store)
    storage.write_json(f"{root}/20250101t000000000000z/shelf.parquet", "of a task that was killed")
    for minute in range(5):
        take(chain, NOW + timedelta(minutes=minute))
    left = {found.path.split("/")[0] for found in storage.files(root)}
    assert left == {f"20261123t120{minute}00000000z" for minute in (2, 3, 4)}


def test_no_more_rows_than_a_job_can_hold(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MOST_ROWS", 1)
    chain.send(0, order("1", "2011-01-03T10:00:00Z", customer_id="1"), order("2", customer_id="2"))
    chain.run("hour-1")
    assert [row["customer_id"] for row in take(chain)["customer"]] == ["2"]


def test_store_out_of_reach_is_said(chain: Chain, snowflake: Snowflake) -> None:
    with pytest.raises(OSError, match="cannot be reached"):
        snapshot.take(chain.warehouse, f"{snowflake.folder.as_uri()}/not-mounted", NOW)
