"""Batches of minutes in the live tables: the newest version wins, whatever comes when, twice, at once or not at all."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include import storage
from include.functions.live_loader.load import Notice, Unfit
from include.functions.warehouse import Warehouse
from tests.pipeline import minutes
from tests.pipeline.chain import Chain
from tests.pipeline.minutes import MINUTE, activity, connect, deliver, sales
from tests.stand_ins import Snowflake, until

COUNTRIES = ("France", "Spain", "Norway")
# What a batch says of keys: minute, country -> pieces.
Said = dict[tuple[int, str], int]
BATCHES = st.lists(
    st.dictionaries(st.tuples(st.integers(0, 2), st.sampled_from(COUNTRIES)), st.integers(-5, 50), max_size=5),
    min_size=1,
    max_size=5,
)


@pytest.fixture
def loader(snowflake: Snowflake) -> Iterator[Warehouse]:
    """A function's session."""
    own = connect(snowflake)
    yield own
    own._drop()


def rows_of(said: Said) -> list[minutes.Row]:
    found = []
    for (minute, country), units in said.items():
        moment = MINUTE + timedelta(minutes=minute)
        found += [sales(moment, country, units), activity(moment, country, abs(units), views=2)]
    return found


def write(store: str, batches: list[Said]) -> list[Notice]:
    """Batches with versions that rise."""
    return [minutes.write(store, f"b{number}", number, rows_of(said)) for number, said in enumerate(batches)]


def newest(batches: list[Said]) -> dict[tuple[int, str], tuple[int, int]]:
    """Key -> pieces and version that must stand in the end."""
    return {key: (units, version) for version, said in enumerate(batches) for key, units in said.items()}


def found(chain: Chain) -> dict[tuple[int, str], tuple[int, int]]:
    """Key -> pieces and version in the live tables; both tables say the same, and nothing is left in staging."""
    assert chain.warehouse.rows("select * from staging.live_minute") == []
    keyed = {}
    for row in chain.warehouse.rows("select * from live.sales_minute"):
        assert row["net_sales"] == Decimal("2.5") * row["units"]
        key = ((row["minute_ts"] - MINUTE) // timedelta(minutes=1), row["country"])
        assert key not in keyed
        keyed[key] = (row["units"], row["version"])
    acts = chain.warehouse.rows("select * from live.activity_minute")
    assert len(acts) == len(keyed)
    for row in acts:
        key = ((row["minute_ts"] - MINUTE) // timedelta(minutes=1), row["country"])
        assert (row["orders"], row["version"], row["views"]) == (abs(keyed[key][0]), keyed[key][1], 2)
    return keyed


def clear(chain: Chain) -> None:
    for table in ("sales_minute", "activity_minute", "batch"):
        chain.warehouse.run(f"delete from live.{table}")


@given(st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_newest_version_wins_in_any_order_and_however_often_a_batch_comes(
    chain: Chain, loader: Warehouse, data: st.DataObject
) -> None:
    clear(chain)
    batches = data.draw(BATCHES)
    notices = write(chain.store, batches)
    again = data.draw(st.lists(st.sampled_from(notices), max_size=2))
    deliver(loader, chain.store, *data.draw(st.permutations([*notices, *again])))
    assert found(chain) == newest(batches)
    ids = [row["batch_id"] for row in chain.warehouse.rows("select batch_id from live.batch order by batch_id")]
    assert ids == [one.batch_id for one in notices]


def test_loaders_at_once_leave_what_one_after_the_other_would(chain: Chain, snowflake: Snowflake) -> None:
    chance = random.Random(7)
    batches = [{(chance.randrange(3), country): chance.randrange(50) for country in COUNTRIES} for _ in range(12)]
    notices = write(chain.store, batches)
    failures: list[Exception] = []

    def run(turns: list[Notice]) -> None:
        own = connect(snowflake)
        try:
            deliver(own, chain.store, *turns)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(chance.sample(notices, len(notices)),)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    assert found(chain) == newest(batches)
    assert len(chain.warehouse.rows("select batch_id from live.batch")) == len(notices)


def test_warehouse_that_is_killed_has_each_batch_whole_or_not_at_all(tmp_path: Path) -> None:
    """Killed again and again while batches are loaded; what is not confirmed comes again, as Pub/Sub has it."""
    folder = tmp_path / "own"
    folder.mkdir()
    own = Snowflake(folder)
    own.start()
    chain = Chain(own.open(), tmp_path / "store")
    (tmp_path / "store").mkdir()
    batches = [{(minute, country): 10 * number for minute in range(3) for country in COUNTRIES} for number in range(30)]
    left = list(write(chain.store, batches))

    def run() -> None:
        loader = connect(own)
        while left:
            with suppress(Exception):
                deliver(loader, chain.store, left[0])
                del left[0]

    worker = threading.Thread(target=run)
    worker.start()
    try:
        for count in (25, 15, 5):
            until(lambda count=count: len(left) <= count, f"{count} batches are left")  # type: ignore[misc]
            own.end()
            own.start()
            chain.warehouse = own.open()
            versions = chain.warehouse.rows(
                "select count(distinct version) as versions from (select version from live.sales_minute "
                "union all select version from live.activity_minute)"
            )
            assert versions == [{"versions": 1}]
        worker.join()
        assert found(chain) == newest(batches)
    finally:
        left.clear()
        own.end()
        worker.join()


def test_batch_is_noted_with_what_the_job_counted(chain: Chain, loader: Warehouse) -> None:
    first, last = "2011-01-04T11:00:00+01:00", "2011-01-04T10:02:00Z"
    said = minutes.write(chain.store, "b7", 7, [sales(MINUTE, "France", 1)], minutes=[first, last], final_until=last)
    deliver(loader, chain.store, said)
    (row,) = chain.warehouse.rows("select * from live.batch")
    assert (row["first_minute"], row["last_minute"]) == (MINUTE, MINUTE + timedelta(minutes=2))
    assert row["final_until"] == MINUTE + timedelta(minutes=2)
    assert [row[name] for name in ("version", "events", "late_to_stream", "rejected")] == [7, 20_000, 3, 1]
    assert row["loaded_ts"] is not None


def test_final_minute_is_above_every_other(chain: Chain, loader: Warehouse) -> None:
    """The streaming job gives final minutes versions from 2^62 on."""
    final = minutes.write(chain.store, "final", 2**62 + 5, [sales(MINUTE, "France", 4, is_final=True)])
    behind = minutes.write(chain.store, "behind", 10**15, [sales(MINUTE, "France", 3)])
    deliver(loader, chain.store, final, behind)
    (row,) = chain.warehouse.rows("select units, version, is_final from live.sales_minute")
    assert row == {"units": 4, "version": 2**62 + 5, "is_final": True}


def test_final_minute_has_no_more_keys_than_its_job_counted(chain: Chain, loader: Warehouse) -> None:
    """The job before knew the product by another category; a third batch is of a minute that goes on."""
    before = minutes.write(chain.store, "before", 10**15, [sales(MINUTE, "France", 4, category="Gifts")])
    final = minutes.write(chain.store, "final", 2**62 + 5, [sales(MINUTE, "France", 4, is_final=True)])
    later = MINUTE + timedelta(minutes=1)
    open_minute = minutes.write(chain.store, "open", 10**15 + 1, [sales(later, "France", 1)])
    for batches in ((before, final, open_minute), (open_minute, final, before)):
        clear(chain)
        deliver(loader, chain.store, *batches)
        rows = chain.warehouse.rows("select minute_ts, category, units from live.sales_minute order by minute_ts")
        assert [tuple(row.values()) for row in rows] == [(MINUTE, "Unknown", 4), (later, "Unknown", 1)]


def test_batch_without_rows_is_noted_too(chain: Chain, loader: Warehouse) -> None:
    empty = minutes.write(chain.store, "b0", 0, [], minutes=None, newest_arrival_ts=None)
    deliver(loader, chain.store, empty)
    assert found(chain) == {}
    assert [row["batch_id"] for row in chain.warehouse.rows("select batch_id from live.batch")] == ["b0"]


def refused(chain: Chain, loader: Warehouse, one: Notice) -> str:
    """Why a batch is refused; nothing of it is there."""
    with pytest.raises(Unfit) as error:
        deliver(loader, chain.store, one)
    assert found(chain) == {}
    assert chain.warehouse.rows("select * from live.batch") == []
    return str(error.value)


def test_notice_of_a_missing_file_is_refused(chain: Chain, loader: Warehouse) -> None:
    minutes.write(chain.store, "other", 1, [sales(MINUTE, "France", 1)])
    words = refused(chain, loader, minutes.notice(chain.store, "gone", 1, 3))
    assert "batches/gone.parquet cannot be loaded: " in words
    assert "was not found" in words


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all", b"PAR1" + bytes(200) + b"PAR1"])
def test_corrupt_file_is_refused(chain: Chain, loader: Warehouse, content: bytes) -> None:
    one = minutes.write(chain.store, "b1", 1, [sales(MINUTE, "France", 1)])
    (chain.folder / "live" / "batches" / "b1.parquet").write_bytes(content)
    assert "b1.parquet cannot be loaded: " in refused(chain, loader, one)


def test_file_that_was_cut_off_is_refused(chain: Chain, loader: Warehouse) -> None:
    one = minutes.write(chain.store, "b1", 1, [sales(MINUTE, "France", 1)])
    file = chain.folder / "live" / "batches" / "b1.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    assert "b1.parquet cannot be loaded: " in refused(chain, loader, one)


def test_file_with_other_rows_than_its_notice_says_is_refused(chain: Chain, loader: Warehouse) -> None:
    minutes.write(chain.store, "b1", 1, [sales(MINUTE, "France", 1)])
    words = refused(chain, loader, minutes.notice(chain.store, "b1", 1, 2))
    assert "has 1 rows, its notice says 2: it is another file" in words


@pytest.mark.parametrize(
    "rows",
    [
        [{**sales(MINUTE, "France", 1), "kind": "stock"}],
        [{**sales(MINUTE, "France", 1), "country": None}],
        [{**sales(MINUTE, "France", 1), "net_sales": None}, sales(MINUTE, "Spain", 1)],
        [{**activity(MINUTE, "France", 1), "views": None}],
    ],
)
def test_rows_that_are_no_minutes_are_refused(chain: Chain, loader: Warehouse, rows: list[minutes.Row]) -> None:
    words = refused(chain, loader, minutes.write(chain.store, "b1", 1, rows))
    assert f"1 of {len(rows)} rows lack a column, or are neither sales nor activity" in words


@pytest.mark.parametrize(
    "table", [pa.table({"minute_ts": ["soon"], "kind": ["sales"]}), pa.table({"country": ["France"]})]
)
def test_file_of_another_shape_is_refused(chain: Chain, loader: Warehouse, table: pa.Table) -> None:
    storage.write_table(f"{chain.store}/live/batches/b1.parquet", table)
    assert "b1.parquet" in refused(chain, loader, minutes.notice(chain.store, "b1", 1, 1))


@pytest.mark.parametrize(
    "uri",
    [
        "gs://elsewhere/live/batches/b1.parquet",
        "{store}/loads/b1.parquet",
        "{store}/live/../loads/b1.parquet",
        "{store}/live//etc/b1.parquet",
        "{store}/live/%2e%2e/b1.parquet",
        "{store}/live/a') files = ('b.parquet",
        "{store}/live/position.json",
        "{store}/live/",
        "{store}x/live/b1.parquet",
        "file:///etc/passwd",
        "",
    ],
)
def test_uri_that_is_no_file_of_the_streaming_job_is_refused(chain: Chain, loader: Warehouse, uri: str) -> None:
    one = minutes.notice(chain.store, "b1", 1, 1, uri=uri.format(store=chain.store))
    assert "is no Parquet file below" in refused(chain, loader, one)
