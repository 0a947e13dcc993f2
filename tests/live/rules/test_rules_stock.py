"""Stock by shelf: booked as the marts book it, found where it falls too low."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from include.beam.rules import MovementRow
from include.beam.rules.stock import LowStock
from include.beam.snapshot import Shelf, Snapshot
from tests.live.rules.stream import START_MS, Partitions, When, content, log, names, play, whens

OFFSETS = {0: 100, 1: 200}
SNAPSHOT = Snapshot(
    datetime(2026, 11, 23, tzinfo=UTC),
    shelves={("LEEDS", "A"): Shelf(20, 10), ("LEEDS", "B"): Shelf(5, 10), ("LYON", "A"): Shelf(3, None)},
    inventory_offsets=OFFSETS,
)
PARTITION_OF = {"A": 0, "B": 1, "C": 1}


def move(number: int, when: When, **fields: Any) -> MovementRow:
    """A movement, by default a sale of one piece of A in Leeds; its number is its place after the snapshot."""
    row = MovementRow(
        f"move:{number}", when.event_ms, when.arrival_ms, 0, number, "LEEDS", "A", "sale", -1, None
    )._replace(**fields)
    partition = PARTITION_OF[row.product_id]
    return row._replace(partition=partition, offset=OFFSETS[partition] + number)


def at(number: int, seconds: int, quantity: int, late_s: int = 0, **fields: Any) -> MovementRow:
    """A movement that is booked so many seconds after the start, less late_s."""
    ms = START_MS + seconds * 1000
    return move(number, When(ms - late_s * 1000, ms, None), quantity=quantity, **fields)


@st.composite
def logs(draw: st.DrawFn) -> Partitions:
    rows = []
    for number, when in enumerate(draw(whens(16, [0, 1, 60, 700]))):
        kind = draw(st.sampled_from(["sale", "sale", "return", "transfer", "refill", "count"]))
        low, high = {"sale": (-12, -1), "transfer": (-8, 8), "count": (0, 15)}.get(kind, (1, 12))
        row = move(
            number,
            when,
            warehouse_id=draw(st.sampled_from(["LEEDS", "LYON"])),
            product_id=draw(st.sampled_from(list(PARTITION_OF))),
            movement_type=kind,
            quantity=draw(st.integers(low, high)),
        )
        rows.append((row.partition, row, when))
    return log(rows, 2)


def booked(rows: list[MovementRow], start: int) -> int:
    """The stock of a shelf as marts.stock_hourly and reporting.stock_position have it, without duplicates."""
    unique = {row.event_id: row for row in reversed(rows)}.values()
    counts = sorted((row.event_ms, row.offset, row.quantity) for row in unique if row.movement_type == "count")
    counted_ms, _, counted = counts[-1] if counts else (-1, 0, start)
    return counted + sum(r.quantity for r in unique if r.movement_type != "count" and r.event_ms > counted_ms)


@given(partitions=logs())
def test_stock_is_what_the_marts_have_after_every_movement(partitions: Partitions) -> None:
    rule = LowStock(SNAPSHOT)
    seen: dict[str, list[MovementRow]] = {}
    for row in (row for rows in partitions for row in rows):
        for key in rule.keys(row):
            seen.setdefault(key, []).append(row)
            rule.observe(key, row)
            known = SNAPSHOT.shelves.get((row.warehouse_id, row.product_id))
            has_count = any(each.movement_type == "count" for each in seen[key])
            expected = booked(seen[key], known.stock if known else 0) if known or has_count else None
            assert rule.stock(key) == expected


@given(partitions=logs(), random=st.randoms(use_true_random=False))
def test_any_interleaving_finds_the_same(partitions: Partitions, random: Random) -> None:
    assert content(play(LowStock, SNAPSHOT, partitions, random)) == content(play(LowStock, SNAPSHOT, partitions))


def test_movement_to_the_reorder_point_is_found_once_until_the_shelf_is_filled() -> None:
    quantities = [-9, -1, -1, +9, -9, -12]
    found = play(LowStock, SNAPSHOT, [[at(n, n, quantity) for n, quantity in enumerate(quantities)]])
    assert [(each.event_id, each.features["level"], each.features["stock"]) for each in found] == [
        ("move:1", "low", 10),
        ("move:4", "low", 9),
        ("move:5", "negative", -3),
    ]


def test_shelf_that_was_low_in_the_snapshot_is_not_found_again() -> None:
    assert not play(LowStock, SNAPSHOT, [[], [at(1, 0, -1, product_id="B")]])
    assert play(LowStock, SNAPSHOT, [[], [at(1, 0, -6, product_id="B")]])[0].features["level"] == "negative"


def test_shelf_without_reorder_point_is_found_below_nothing_only() -> None:
    found = play(LowStock, SNAPSHOT, [[at(1, 0, -3, warehouse_id="LYON"), at(2, 1, -1, warehouse_id="LYON")]])
    assert names(found) == {("low_stock", "shelf:LYON/A", "move:2")}


def test_shelf_that_the_snapshot_does_not_know_is_of_no_interest_before_its_first_count() -> None:
    rows = [at(1, 0, -3, product_id="C"), at(2, 1, 2, product_id="C", movement_type="count")]
    assert not play(LowStock, SNAPSHOT, [[], rows])
    found = play(LowStock, SNAPSHOT, [[], [*rows, at(3, 2, -3, product_id="C")]])
    assert [each.features["stock"] for each in found] == [-1]


def test_movements_that_the_snapshot_includes_are_left_out() -> None:
    rule = LowStock(SNAPSHOT)
    assert not rule.keys(at(0, 0, -30)._replace(offset=OFFSETS[0] - 1))
    assert rule.keys(at(0, 0, -30)) == ("shelf:LEEDS/A",)
    assert not LowStock(None).keys(at(0, 0, -30))


def test_late_sale_from_before_a_count_is_not_booked_and_one_from_after_it_is() -> None:
    count = at(1, 100, 12, movement_type="count")
    assert not play(LowStock, SNAPSHOT, [[count, at(2, 130, -5, late_s=31)]])
    assert play(LowStock, SNAPSHOT, [[count, at(2, 130, -5, late_s=29)]])
    assert play(LowStock, SNAPSHOT, [[at(2, 130, -5), at(1, 140, 12, late_s=40, movement_type="count")]])
