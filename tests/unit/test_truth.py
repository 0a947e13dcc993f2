"""What the tests hold a platform against: which of an event's copies must be seen."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.truth import Truth

SENT = datetime(2026, 1, 5, 12)


def claim(slice_id: str, commit_no: int, start: int, end: int) -> dict[str, Any]:
    return {
        "slice_id": slice_id,
        "commit_no": commit_no,
        "topic": "web.interactions",
        "partition": 0,
        "start_offset": start,
        "end_offset": end,
    }


@pytest.mark.parametrize(
    ("claims", "outcomes"),
    [
        ([], ["published", "duplicate", "duplicate"]),
        ([claim("a", 1, 0, 1), claim("b", 2, 1, 3)], ["published", "duplicate", "duplicate"]),
        ([claim("a", 2, 0, 1), claim("b", 1, 1, 3)], ["duplicate", "published", "duplicate"]),
        ([claim("b", 1, 2, 3)], ["duplicate", "duplicate", "published"]),
    ],
    ids=["nothing committed", "in the log's order", "the later slice first", "only the last committed"],
)
def test_copy_of_the_slice_that_was_committed_first_is_published(
    tmp_path: Path, claims: list[dict[str, Any]], outcomes: list[str]
) -> None:
    account, log = tmp_path / "account", tmp_path / "log.parquet"
    account.mkdir()
    row = {
        "topic": "web.interactions",
        "partition": 0,
        "event_id": "e",
        "event_ts": SENT,
        "send_ts": SENT,
        "label": None,
    }
    kinds = ("normal", "duplicate", "duplicate")
    pq.write_table(pa.Table.from_pylist([{**row, "kind": kind} for kind in kinds]), account / "0.parquet")
    message = {"topic": "web.interactions", "partition": 0, "arrival_ts": SENT, "value": b"{}"}
    pq.write_table(pa.Table.from_pylist([{**message, "offset": n} for n in range(3)]), log)
    truth = Truth(log, account, claims)
    assert [outcome for (outcome,) in truth.rows('select outcome from expected order by "offset"')] == outcomes
