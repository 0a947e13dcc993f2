"""Replays: committed slices computed once more, many in one load, from the log or the archive, give what they gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include import references
from include.beam import archive
from include.beam.plan import Source
from include.beam.source import ChunkError
from madhatter import backfill, ledger, planning, staging
from madhatter.backfill import MOST_SLICES, Request, WindowRefused
from madhatter.ledger import Slice
from madhatter.slices import Claim
from tests.pipeline.chain import TOPIC, WINDOW, Chain, order

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
SLICES = ("hour-1", "hour-2", "hour-3")
CARD = "4111111111111111"


def fill(chain: Chain) -> None:
    """Three slices: events that come again later and at smaller offsets, late ones, holes, dead letters, one of them
    with a card number that the archive masks, and a product whose category changes late."""
    chain.send(0, order("1"), order("2", "2011-01-04T11:20:00Z"), None, b"{broken", order("1"))
    chain.send(1, order("9", customer_id=CARD), order("3"))
    chain.send(0, product("22752", "2011-01-01T00:00:00Z", "Toys"), topic="catalog.products")
    chain.run("hour-1")
    chain.send(1, order("2", "2011-01-04T11:20:00Z"), order("4", "2011-01-04T10:59:00Z"), None)
    chain.run("hour-2")
    chain.send(0, order("4", "2011-01-04T10:59:00Z"), order("5", "2011-01-05T09:00:00Z"), None)
    chain.send(0, product("22752", "2011-01-04T10:30:00Z", "Dolls"), topic="catalog.products")
    chain.run("hour-3")


def product(product_id: str, event_ts: str, category: str) -> bytes:
    return json.dumps(
        {
            "event_id": f"product:{product_id}:{event_ts}",
            "event_ts": event_ts,
            "change_type": "created",
            "product_id": product_id,
            "product_name": "SET 7 BABUSHKA NESTING BOXES",
            "category": category,
            "list_price": 8.5,
            "unit_cost": 4.25,
            "reorder_point": 20,
            "supplier": "S1",
        }
    ).encode()


@pytest.mark.parametrize("source", ["kafka", "archive"])
def test_replay_of_many_slices_in_one_load_gives_identical_content(chain: Chain, source: Source) -> None:
    fill(chain)
    before = chain.content()
    if source == "archive":
        chain.log.clear()
    (load,) = chain.replay(source)
    assert load["slices"] == list(SLICES)
    assert chain.content() == before
    assert chain.is_balanced()


@pytest.mark.parametrize("slice_id", SLICES)
def test_replay_of_one_slice_among_others_gives_identical_content(chain: Chain, slice_id: str) -> None:
    fill(chain)
    before = chain.content()
    chain.warehouse.run(f"update ops.slice set window_end = '2011-01-04 12:00' where slice_id = '{slice_id}'")
    chain.warehouse.run(f"update ops.slice set window_start = '2011-01-04 11:00' where slice_id = '{slice_id}'")
    asked = Request("replay", WINDOW[1], WINDOW[1] + timedelta(hours=1), "archive")
    (load,) = backfill.replay(chain.warehouse, chain.store, asked, "run", "nowhere:9092", 5)
    assert load["slices"] == [slice_id]
    chain.transform(load["load_id"])
    chain.stage(load["load_id"])
    chain.publish(load["load_id"], load["slices"])
    chain.warehouse.run("update ops.slice set window_start = '2011-01-04 10:00', window_end = '2011-01-04 11:00'")
    assert chain.content() == before


def test_replay_leaves_out_a_gap_that_was_written_into_the_ledger_by_hand(chain: Chain) -> None:
    fill(chain)
    chain.warehouse.run(
        "insert into ops.slice (slice_id, kind, window_start, window_end, state) "
        "values ('gap-1', 'backfill', '2011-01-04 10:10', '2011-01-04 10:10', 'committed')"
    )
    chain.warehouse.run(
        "insert into ops.slice_partition (slice_id, topic, partition, start_offset, end_offset, delivered, holes) "
        "values ('gap-1', 'sales.orders', 0, 8, 10, 0, 2)"
    )
    before = chain.content()
    (load,) = chain.replay("archive")
    assert load["slices"] == list(SLICES)
    assert chain.content() == before


def test_replay_brings_back_what_was_lost_in_core_and_marts(chain: Chain) -> None:
    fill(chain)
    before = chain.content()
    for table in ("core.order_header", "core.order_line", "marts.sales_hourly", "ops.dead_letter", "core.product"):
        chain.warehouse.run(f"delete from {table}")
    chain.replay("archive")
    assert chain.content() == before


def test_slices_enriched_from_other_references_are_replayed_in_loads_of_their_own(chain: Chain) -> None:
    fill(chain)
    old = Path(references.pin(chain.store)["country"].removeprefix("file://"))
    old.with_name("country-old.csv").write_bytes(old.read_bytes())
    pins = json.dumps({"country": old.with_name("country-old.csv").as_uri()})
    chain.warehouse.run("update ops.slice set pins = :pins where slice_id = 'hour-2'", pins=pins)
    before = chain.content()
    assert [load["slices"] for load in chain.replay("archive")] == [["hour-1"], ["hour-2"], ["hour-3"]]
    assert chain.content() == before


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[40] ^= 255
    file.write_bytes(raw)


def _shift(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "offset", pa.array([o.as_py() + 50 for o in table["offset"]], pa.int64())), file)


def _shorten(file: Path) -> None:
    pq.write_table(pq.read_table(file).slice(1), file)


DAMAGED = r"sales\.orders-0-5-8\.parquet cannot be replayed .* put a copy of it back, or replay from kafka"
HARMS: list[tuple[Callable[[Path], None], type[Exception], str]] = [
    (
        Path.unlink,
        archive.ArchiveGap,
        r"slice hour-3 is sales\.orders\[0\] 5\.\.7, but .*/archive/sales\.orders/0 has nothing of it",
    ),
    (_cut, ChunkError, DAMAGED),
    (_flip, ChunkError, DAMAGED),
    (_shift, ChunkError, DAMAGED),
    (
        _shorten,
        staging.LoadDamaged,
        r"slice hour-3 now has 1 events in sales\.orders\[0\], and had 2 when it was committed",
    ),
]


def test_missing_and_damaged_archive_files_are_named_and_nothing_is_applied(chain: Chain) -> None:
    fill(chain)
    before = chain.content()
    file = chain.folder / "archive" / TOPIC / "0" / f"{TOPIC}-0-5-8.parquet"
    whole = file.read_bytes()
    for harm, error, words in HARMS:
        harm(file)
        with pytest.raises(error, match=words):
            chain.replay("archive")
        assert chain.content() == before
        file.write_bytes(whole)
    file.unlink()
    chain.replay("kafka")
    assert file.exists()


def test_archive_cut_in_several_ways_is_read_in_one_that_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "archive" / TOPIC / "0"
    folder.mkdir(parents=True)
    for first, end in ((0, 6), (0, 5), (5, 10), (6, 8), (10, 12)):
        (folder / f"{TOPIC}-0-{first}-{end}.parquet").touch()
    found = archive.chunks(tmp_path.as_uri(), "hour-1", TOPIC, 0, 0, 12)
    assert [(chunk.start, chunk.end) for chunk in found] == [(0, 5), (5, 10), (10, 12)]
    assert archive.chunks(tmp_path.as_uri(), "hour-1", TOPIC, 0, 5, 5) == []


def test_slice_planned_again_keeps_its_references_and_gets_those_added_since(chain: Chain) -> None:
    planned = chain.plan("hour-1")
    known = ledger.find(chain.warehouse, "hour-1")
    assert known is not None
    assert known.pins == references.pin(chain.store)
    old = {"country": "file:///old.csv"}
    chain.warehouse.run("update ops.slice set pins = :pins", pins=json.dumps(old | {"region": "file:///region.csv"}))
    known = ledger.find(chain.warehouse, planned.slice_id)
    assert known is not None
    assert planning.pin(chain.warehouse, chain.store, known) == old | {"region": "file:///region.csv"}
    chain.warehouse.run('update ops.slice set pins = \'{"region": "file:///region.csv"}\'')
    known = ledger.find(chain.warehouse, planned.slice_id)
    assert known is not None
    assert planning.pin(chain.warehouse, chain.store, known) == {"region": "file:///region.csv"} | references.pin(
        chain.store
    )


def test_window_beyond_what_is_published_is_refused(chain: Chain) -> None:
    with pytest.raises(WindowRefused, match=r"to=2011-01-04 11:00:00 is not closed: .* reaches to nowhere yet"):
        chain.replay("kafka")
    fill(chain)
    with pytest.raises(WindowRefused, match=r"to=2011-01-04 11:00:01 is not closed: .* reaches to 2011-01-04 11:00:00"):
        chain.replay("kafka", WINDOW[1] + timedelta(seconds=1))


def test_window_without_events_is_refused(chain: Chain) -> None:
    chain.run("hour-1")
    with pytest.raises(WindowRefused, match="there is nothing to replay"):
        chain.replay("archive")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"from": "2026-11-23T09:00:00", "to": "2026-11-23T08:00:00"}, "from=2026-11-23 09:00:00 is not before to="),
        ({"from": "2026-11-23T08:00:00", "to": "2026-11-23T08:00:00"}, "is not before"),
        ({"from": "2026-11-22T08:00:00"}, "replay needs `from` and `to`"),
        ({"to": "2026-11-22T08:00:00"}, "replay needs `from` and `to`"),
        ({"from": "2026-11-22T08:00:00", "to": "2026-11-23T10:00:01"}, "to=2026-11-23 10:00:01 is in the future"),
        ({"from": "2026-11-22T08:00:00", "to": "2026-11-23T10:30:00+01:00", "mode": "catch_up"}, "leave `from` empty"),
        ({"mode": "catch_up", "source": "archive"}, "choose source kafka"),
        ({"from": "monday", "to": "2026-11-22T08:00:00"}, "from='monday' is no time such as"),
    ],
)
def test_request_that_makes_no_sense_is_refused_with_words(changes: dict[str, str], words: str) -> None:
    params = {"mode": "replay", "from": None, "to": None, "source": "kafka"} | changes
    with pytest.raises(WindowRefused, match=words):
        Request.of(params, NOW)


def test_times_of_a_request_are_utc_whatever_their_zone() -> None:
    params = {"mode": "replay", "from": "2026-11-22T08:00:00+02:00", "to": "2026-11-22T08:00:00", "source": "archive"}
    asked = Request.of(params, NOW)
    assert asked == Request(
        "replay", datetime(2026, 11, 22, 6, tzinfo=UTC), datetime(2026, 11, 22, 8, tzinfo=UTC), "archive"
    )


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([5_000_000], [1]),
        ([1_000_000, 1_000_000, 1, 1], [2, 2]),
        ([1, 5_000_000, 1, 1], [1, 1, 2]),
        ([1] * (MOST_SLICES + 1), [MOST_SLICES, 1]),
    ],
)
def test_slices_are_grouped_into_loads_of_bounded_size(sizes: list[int], expected: list[int]) -> None:
    slices = [
        Slice(f"hour-{at}", "hour", NOW, NOW, "committed", (Claim(TOPIC, 0, "id", 0, 0, size),))
        for at, size in enumerate(sizes)
    ]
    loads = list(backfill.group(slices))
    assert [len(load) for load in loads] == expected
    assert [one for load in loads for one in load] == slices
