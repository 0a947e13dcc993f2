"""The snapshot, as the Airflow side writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from include import storage
from include.beam import snapshot
from include.beam.snapshot import History, Shelf, Snapshot, SnapshotError

TAKEN_TS = datetime(2026, 11, 23, 10, tzinfo=UTC)
TABLES = {
    "customer": {
        "customer_id": ["17850", "13047"],
        "orders": [3, 1],
        "mean_amount": [100.0, 500.0],
        "max_amount": [150.0, 500.0],
    },
    "product": {"product_id": ["85123A"], "category": ["Lights"]},
    "shelf": {
        "warehouse_id": ["LEEDS", "LYON"],
        "product_id": ["85123A"] * 2,
        "stock": [7, -1],
        "reorder_point": [10, None],
    },
}


def write(folder: Path, *tables: str) -> str:
    """A snapshot with these files; returns its URI."""
    for name in tables:
        storage.write_table((folder / f"{name}.parquet").as_uri(), pa.table(TABLES[name]))
    uri = (folder / "snapshot.json").as_uri()
    offsets = {"inventory.movements": {"0": 120, "1": 7}}
    storage.write_json(uri, {"taken_ts": TAKEN_TS.isoformat(), "inventory_offsets": offsets, "files": {}})
    return uri


def test_snapshot_has_histories_categories_and_shelves(tmp_path: Path) -> None:
    assert snapshot.read(write(tmp_path, *TABLES)) == Snapshot(
        TAKEN_TS,
        {"17850": History(3, 100.0, 150.0), "13047": History(1, 500.0, 500.0)},
        {"85123A": "Lights"},
        {("LEEDS", "85123A"): Shelf(7, 10), ("LYON", "85123A"): Shelf(-1, None)},
        {0: 120, 1: 7},
    )


def test_snapshot_of_a_young_platform_has_no_rows(tmp_path: Path) -> None:
    known = snapshot.read(write(tmp_path))
    assert known == Snapshot(TAKEN_TS, inventory_offsets={0: 120, 1: 7})
    assert known.amount_at(0.5) is None


def test_amount_that_a_share_of_sales_is_below_counts_each_sale(tmp_path: Path) -> None:
    known = snapshot.read(write(tmp_path, *TABLES))
    assert [known.amount_at(share) for share in (0.0, 0.75, 0.76, 1.0)] == [100.0, 100.0, 500.0, 500.0]


def test_snapshot_that_cannot_be_used_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"snapshot\.json"):
        snapshot.read((tmp_path / "snapshot.json").as_uri())
    uri = write(tmp_path, "product")
    (tmp_path / "customer.parquet").write_bytes(b"PAR1")
    with pytest.raises(SnapshotError, match=r"customer\.parquet"):
        snapshot.read(uri)
    storage.write_table((tmp_path / "customer.parquet").as_uri(), pa.table({"customer_id": ["1"]}))
    with pytest.raises(SnapshotError, match=r"customer\.parquet: column max_amount, mean_amount, orders is missing"):
        snapshot.read(uri)
    (tmp_path / "snapshot.json").write_text("{}")
    with pytest.raises(SnapshotError, match=r"snapshot\.json.*taken_ts"):
        snapshot.read(uri)
