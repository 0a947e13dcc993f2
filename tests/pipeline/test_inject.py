"""What `make signal` chooses, so that what happens leads to something new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local import inject
from local.instance import Instance
from madhatter.warehouse import Warehouse
from tests.stand_ins import Snowflake

TABLES = (
    *("core.customer", "marts.product_affinity", "marts.stock_cover", "marts.stock_hourly"),
    *("ops.offer", "ops.reorder_draft"),
)


@pytest.fixture
def instance(snowflake: Snowflake) -> Instance:
    return Instance(snowflake.folder / "instance", snowflake.base)


@pytest.fixture
def warehouse(snowflake: Snowflake) -> Iterator[Warehouse]:
    """Three shelves and three customers."""
    own = snowflake.open()
    for table in TABLES:
        own.run(f"delete from {table}")
    for name in ("A", "B", "C"):
        own.run(
            "insert into core.customer (customer_id, accepts_marketing, is_current, is_deleted) "
            "values (:id, true, true, false)",
            id=name,
        )
        own.run(
            "insert into marts.stock_cover (warehouse_id, product_id, reorder_point) values ('LEEDS', :id, 10)", id=name
        )
        own.run(
            "insert into marts.stock_hourly (warehouse_id, product_id, change, event_hour) "
            "values ('LEEDS', :id, 50, '2026-11-29 10:00:00')",
            id=name,
        )
    own.run("insert into marts.product_affinity (product_id, other_product_id, lift) values ('A', 'B', 9)")
    yield own
    own.close()


def test_shelf_that_is_emptied_has_no_open_draft(warehouse: Warehouse, instance: Instance) -> None:
    warehouse.run(
        "insert into ops.reorder_draft (warehouse_id, product_id, state) "
        "values ('LEEDS', 'A', 'draft'), ('LEEDS', 'B', 'draft'), ('LEEDS', 'C', 'ordered'), ('LYON', 'C', 'draft')"
    )
    for _ in range(5):
        assert inject.stock(instance).events[0][1]["product_id"] == "C"
    warehouse.run("update ops.reorder_draft set state = 'draft'")
    with pytest.raises(inject.NothingToInject, match="has a draft already"):
        inject.stock(instance)


def test_cart_is_of_a_customer_who_had_no_offer_within_a_week(warehouse: Warehouse, instance: Instance) -> None:
    warehouse.run(
        "insert into ops.offer (customer_id, left_ts) values ('A', dateadd(day, -6, sysdate())), "
        "('B', dateadd(day, 1, sysdate())), ('C', dateadd(day, -8, sysdate()))"
    )
    for _ in range(5):
        assert inject.cart(instance).events[0][1]["customer_id"] == "C"
    warehouse.run("update ops.offer set left_ts = sysdate()")
    with pytest.raises(inject.NothingToInject, match="each had an offer within a week"):
        inject.cart(instance)
