"""The live loader as it runs: notices pushed by Pub/Sub become minutes, or dead letters with a reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from include.functions.live_loader.load import Notice
from tests.functions.running import Function, Live
from tests.pipeline import minutes
from tests.pipeline.minutes import MINUTE, activity, sales
from tests.stand_ins import Snowflake, until

Start = Callable[..., Function]


@pytest.fixture
def loader(start: Start, settings: dict[str, str], tmp_path: Path) -> Function:
    """A loader over a store of the test's own."""
    return start("live_loader", **settings, MADHATTER_STORE=(tmp_path / "store").as_uri())


def send(live: Live, one: Notice) -> None:
    live.publish("live.batches", msgspec.json.encode(one))


def units(warehouse: Snowflake, country: str) -> list[int]:
    """What live has sold to a country, by minute."""
    session = warehouse.open()
    try:
        rows = session.rows("select units from live.sales_minute where country = :c order by minute_ts", c=country)
    finally:
        session.close()
    return [row["units"] for row in rows]


def test_batches_that_are_pushed_become_minutes_newest_version_first(
    live: Live, loader: Function, warehouse: Snowflake
) -> None:
    store = (live.folder / "store").as_uri()
    batches = [
        minutes.write(
            store,
            f"way-{version}",
            version,
            [row for minute in (0, 1) for row in (
                sales(MINUTE + timedelta(minutes=minute), "Wayland", 10 * version + minute),
                activity(MINUTE + timedelta(minutes=minute), "Wayland", version),
            )],
        )
        for version in range(1, 6)
    ]  # fmt: skip
    for one in (*reversed(batches), batches[2]):
        send(live, one)
    until(lambda: len([line for line in loader.lines if line["status"] == 204]) == 6, "all notices are answered")
    assert units(warehouse, "Wayland") == [50, 51]
    assert {(line["batch_id"], line["rows"]) for line in loader.lines} == {(one.batch_id, 4) for one in batches}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (b"no notice", "no notice of a batch"),
        (b'{"batch_id": "b1"}', "no notice of a batch"),
        (msgspec.json.encode(minutes.notice("gs://elsewhere", "b1", 1, 1)), "is no Parquet file below"),
        ("missing", "was not found"),
    ],
)
def test_notice_of_nothing_is_refused_in_words(live: Live, loader: Function, what: bytes | str, words: str) -> None:
    store = (live.folder / "store").as_uri()
    data = what if isinstance(what, bytes) else msgspec.json.encode(minutes.notice(store, "gone", 1, 1))
    live.publish("live.batches", data)
    until(lambda: any(line["status"] == 400 for line in loader.lines), "it is refused")
    assert all(words in line["error"] for line in loader.lines)


def test_batch_comes_through_though_the_warehouse_is_away_when_it_is_pushed(
    live: Live, start: Start, settings: dict[str, str], tmp_path: Path
) -> None:
    own = Snowflake(tmp_path / "own")
    own.folder.mkdir()
    own.start()
    store = (live.folder / "store").as_uri()
    connection = settings["MADHATTER_WAREHOUSE"]
    place = msgspec.json.encode({**msgspec.json.decode(connection), "port": own.port}).decode()
    loader = start("live_loader", **{**settings, "MADHATTER_WAREHOUSE": place, "MADHATTER_STORE": store})
    own.end()
    send(live, minutes.write(store, "later", 1, [sales(MINUTE, "France", 3)]))
    until(lambda: any(line["status"] == 503 for line in loader.lines), "it is told to come again")
    own.start()
    try:
        until(lambda: loader.lines[-1]["status"] == 204, "it is loaded")
        assert units(own, "France") == [3]
    finally:
        own.end()
