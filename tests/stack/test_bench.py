"""The benchmark in small: its contenders agree on every event, and its table has a row for each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import spark
from bench.__main__ import Contender, compare, measured, report
from local.kafka import jars

EVENTS = 3_000


def test_contenders_agree_on_the_rows_and_each_has_a_line_in_the_table() -> None:
    passes, sent = measured(EVENTS, rounds=1, with_spark=False)
    assert EVENTS < sent < EVENTS * 1.05  # some are sent twice
    lines = report(passes, sent).splitlines()[2:]
    names = ["MadHatter: Beam, hourly.py", "  the same without archive", "plain Python: DuckDB, pyarrow"]
    assert [line[: len(name)] for line, name in zip(lines, names, strict=True)] == names
    assert lines[0].endswith("1.00")


def test_contender_that_loses_rows_ends_the_benchmark(tmp_path: Path) -> None:
    loses = [sys.executable, "-c", """print('{"name": "", "wall_s": 1, "cpu_s": 1}')"""]
    contender = Contender("MadHatter: Beam, hourly.py", loses, "good", "rejected")
    with pytest.raises(RuntimeError, match=r"do not agree on \(good, rejected\) of 10 events"):
        compare([contender], tmp_path / "out", 1, sent=10)


def test_spark_jars_are_locked_with_their_hashes() -> None:
    found = jars.locked(spark.LOCK)
    assert any(name.startswith("spark-sql-kafka-0-10_2.13-4.2") for name in found)
    assert all(path.endswith(f"/{name}") and len(sha256) == 64 for name, (path, sha256) in found.items())
