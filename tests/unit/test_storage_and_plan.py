"""Files that appear whole or not at all, and the plan and manifest that pass between Airflow and a pipeline."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include import storage
from include.beam.plan import Chunk, ChunkResult, File, Manifest, Plan, cut, load_folder

TOPIC = "sales.orders"
OLD = "file:///s/references/old.csv"
CHUNKS = (Chunk("hour-1", TOPIC, 0, 0, 5), Chunk("hour-1", TOPIC, 0, 5, 7), Chunk("hour-1", TOPIC, 1, 3, 4))


def result(chunk: Chunk, holes: int = 0) -> ChunkResult:
    files = tuple(File(table, f"{table}/{chunk.name}.parquet", 2, 100) for table in ("order_line", "order_header"))
    delivered = chunk.end - chunk.start - holes
    return ChunkResult(chunk, files, delivered, holes, 1, (f"2011-01-04T1{chunk.partition}:00:00",))


def test_written_table_is_read_again_from_its_uri(tmp_path: Path) -> None:
    uri = storage.join(tmp_path.as_uri(), "a", "b.parquet")
    table = pa.table({"n": [1, 2]})
    size = storage.write_table(uri, table)
    path = tmp_path / "a" / "b.parquet"
    assert (pq.read_table(path), path.stat().st_size) == (table, size)


def test_files_below_a_uri_are_told_with_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "store" / "a b" / "c.txt"
    path.parent.mkdir(parents=True)
    path.write_text("four")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    expected = [storage.Stored("a b/c.txt", 4, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC))]
    root = (tmp_path / "store").as_uri()
    assert list(storage.files(root)) == list(storage.files(f"{root}/")) == expected
    assert list(storage.files(f"{root}/nothing")) == []


def test_removed_files_take_their_empty_folders_with_them(tmp_path: Path) -> None:
    root = tmp_path / "store"
    for name in ("a/b/one", "a/two", "c/three", "c/four"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    storage.remove_below(root.as_uri(), ["a/b/one", "a/two", "c/three", "gone/before"])
    assert [file.path for file in storage.files(root.as_uri())] == ["c/four"]
    assert [path.name for path in root.iterdir()] == ["c"]


def test_second_write_replaces_the_file(tmp_path: Path) -> None:
    uri = storage.join(tmp_path.as_uri(), "x.json")
    storage.write_json(uri, {"n": 1})
    storage.write_json(uri, {"n": 2})
    assert storage.read_json(uri) == {"n": 2}
    assert os.listdir(tmp_path) == ["x.json"]  # noqa: PTH208


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_write_that_fails_leaves_the_old_file_and_no_half_one(tmp_path: Path, error: type[BaseException]) -> None:
    uri = storage.join(tmp_path.as_uri(), "x.json")
    storage.write_json(uri, "old")

    def half(sink: Any) -> None:
        sink.write(b'"new')
        raise error

    with pytest.raises(error):
        storage.write_whole(uri, half)
    assert storage.read_json(uri) == "old"
    assert os.listdir(tmp_path) == ["x.json"]  # noqa: PTH208


def test_file_that_is_being_written_has_a_name_that_no_reader_matches(tmp_path: Path) -> None:
    def look(sink: Any) -> None:
        sink.write(b"x")
        assert list(tmp_path.glob("*.parquet")) == []

    storage.write_whole(storage.join(tmp_path.as_uri(), "a.parquet"), look)
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["a.parquet"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    uri = storage.join(tmp_path.as_uri(), "none.json")
    with pytest.raises(FileNotFoundError, match=rf"{uri} does not exist"):
        storage.read_json(uri)


@pytest.mark.parametrize("uri", ["data/x.json", "ftp://host/x", ""])
def test_uri_without_a_usable_scheme_is_named(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is not a storage URI such as file:///data or gs://bucket/data"):
        storage.locate(uri)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 3_000))
def test_chunks_cover_their_offsets_without_gap_or_overlap(start: int, length: int, size: int) -> None:
    chunks = cut("hour-1", TOPIC, 3, start, start + length, size)
    assert [offset for c in chunks for offset in range(c.start, c.end)] == list(range(start, start + length))
    assert all(0 < c.end - c.start <= size for c in chunks)
    assert len({c.name for c in chunks}) == len(chunks)


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan("hour-1", tmp_path.as_uri(), CHUNKS, {"country": "file:///s/country.csv"})
    uri = plan.write()
    assert uri == load_folder(tmp_path.as_uri(), "hour-1") + "/plan.json"
    assert Plan.read(uri) == plan


@pytest.mark.parametrize("content", [{}, {"slice_id": "x", "store": "y", "chunks": [{"topic": "t"}]}, [1]])
def test_file_that_is_no_plan_is_named(tmp_path: Path, content: Any) -> None:
    uri = storage.join(tmp_path.as_uri(), "plan.json")
    storage.write_json(uri, content)
    with pytest.raises(ValueError, match=rf"{uri} is not a plan"):
        Plan.read(uri)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_plan_that_was_cut_is_named(tmp_path: Path, share: float) -> None:
    uri = cut_plan(tmp_path, share)
    with pytest.raises(ValueError, match=rf"{uri} is not a plan"):
        Plan.read(uri)


def cut_plan(folder: Path, share: float) -> str:
    """The URI of a plan.json of which only this share is there."""
    uri = Plan("hour-1", folder.as_uri(), CHUNKS, {"country": OLD}).write()
    path = folder / "loads" / "hour-1" / "plan.json"
    text = path.read_text()
    path.write_text(text[: int(len(text) * share)])
    return uri


def test_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = Manifest("hour-1", tuple(map(result, CHUNKS)), 1.25)
    assert manifest.write(tmp_path.as_uri()) == Manifest.uri(tmp_path.as_uri(), "hour-1")
    assert Manifest.read(tmp_path.as_uri(), "hour-1") == manifest


def test_manifest_of_a_pipeline_that_has_not_ended_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"loads/hour-1/manifest\.json does not exist"):
        Manifest.read(tmp_path.as_uri(), "hour-1")


def test_manifest_lists_a_tables_files_and_all_hours_in_order() -> None:
    manifest = Manifest("hour-1", tuple(map(result, reversed(CHUNKS))), 0)
    assert [file.path for file in manifest.files("order_line")] == [
        f"order_line/sales.orders-{part}.parquet" for part in ("0-0-5", "0-5-7", "1-3-4")
    ]
    assert manifest.files("order") == []
    assert manifest.hours() == {"hour-1": ["2011-01-04T10:00:00", "2011-01-04T11:00:00"]}


def test_complete_manifest_covers_its_plan_in_any_order() -> None:
    plan = Plan("hour-1", "file:///s", CHUNKS, {})
    Manifest("hour-1", tuple(result(chunk, holes=1) for chunk in reversed(CHUNKS)), 0).check_covers(plan)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (tuple(map(result, CHUNKS[:2])), r"missing chunks \[\('hour-1', 'sales\.orders', 1, 3, 4\)\]"),
        (tuple(map(result, (*CHUNKS, CHUNKS[0]))), r"foreign or doubled \[\('hour-1', 'sales\.orders', 0, 0, 5\)\]"),
        (
            tuple(map(result, (*CHUNKS, Chunk("hour-1", "other", 0, 0, 5)))),
            r"foreign or doubled \[\('hour-1', 'other', 0, 0, 5\)\]",
        ),
        ((*map(result, CHUNKS[:2]), replace(result(CHUNKS[2]), holes=1)), r"1-3-4 delivered 1 and has 1 holes"),
    ],
)
def test_manifest_that_is_not_its_plan_is_refused(results: tuple[ChunkResult, ...], words: str) -> None:
    with pytest.raises(ValueError, match=rf"manifest of hour-1: .*{words}"):
        Manifest("hour-1", results, 0).check_covers(Plan("hour-1", "file:///s", CHUNKS, {}))
