"""The stand-in's own promises: what is committed survives kill -9, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from snowflake.connector import SnowflakeConnection
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errors import DatabaseError, Error, ProgrammingError

from tests.conformance.conftest import ROOT, StandIn, rows, value

COPY = """
    copy into t from @files files = ('a.parquet') file_format = (type = parquet)
    match_by_column_name = case_insensitive
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in that the test may kill."""
    server = StandIn(tmp_path / "data")
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop()


def test_committed_data_stages_history_views_and_comments_survive_kill_9(own: StandIn, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    cursor = own.connect().cursor()
    for sql in (
        "create table t (a integer not null, b varchar(10))",
        "create view v as select a from t",
        f"create stage files url = '{tmp_path.as_uri()}/'",
        "comment on table t is 'it''s kept'",
        COPY,
        "begin",
        "insert into t values (3, 'committed')",
        "commit",
        "begin",
        "insert into t values (4, 'not committed')",
    ):
        cursor.execute(sql)
    own.kill()
    own.start()
    with pytest.raises(Error):
        cursor.execute("commit")
    cursor = own.connect().cursor()
    assert rows(cursor, "select a from v order by a") == [(1,), (2,), (3,)]
    assert rows(cursor, COPY)[0][1] == "LOAD_SKIPPED"
    assert value(cursor, "select comment from information_schema.tables where table_name = 'T'") == "it's kept"
    with pytest.raises(DatabaseError):
        cursor.execute("insert into t values (null, 'x')")


def test_load_history_expires_after_64_days(own: StandIn, tmp_path: Path) -> None:
    """It is read at every COPY, so it must not grow for ever."""
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / name)
    cursor = own.connect().cursor()
    cursor.execute("create table t (a integer)")
    cursor.execute(f"create stage files url = '{tmp_path.as_uri()}/'")
    cursor.execute(COPY)
    history = "_fs_information_schema._fs_load_history"
    cursor.execute(f"update {history} set last_load_time = dateadd(day, -65, current_timestamp())")
    cursor.execute(COPY.replace("a.parquet", "b.parquet"))
    assert [name.rpartition("/")[2] for (name,) in rows(cursor, f"select file_name from {history}")] == ["b.parquet"]
    etags = "select file_name from _fs_information_schema._fs_load_etag"
    assert [name.rpartition("/")[2] for (name,) in rows(cursor, etags)] == ["b.parquet"]


def test_room_of_deleted_rows_is_used_again(own: StandIn) -> None:
    """A day of staging whose slices go an hour after they came: the files end as big as they were after a few."""
    cursor = own.connect().cursor()
    cursor.execute("create table t (slice integer, payload varchar(64))")

    def size_after(slices: range) -> int:
        for number in slices:
            cursor.execute(
                f"insert into t select {number}, sha2(seq4()::varchar || '{number}') "
                "from table(generator(rowcount => 50000))"
            )
            cursor.execute(f"delete from t where slice < {number}")
        return sum(file.stat().st_size for file in own.data.iterdir() if file.is_file())

    few, day = size_after(range(8)), size_after(range(8, 32))
    assert value(cursor, "select count(*) from t") == 50_000
    assert day < 2 * few, f"{few} bytes after 8 slices, {day} after 32"


def test_sigterm_ends_it_at_once_even_with_open_sessions(own: StandIn) -> None:
    cursor = own.connect().cursor()
    cursor.execute("create table t (a integer)")
    cursor.execute("begin")
    cursor.execute("insert into t values (1)")
    cursor.execute("update t set a = 2")
    waiting = threading.Thread(target=_ignoring_errors, args=(own.connect().cursor(), "update t set a = 3"))
    waiting.start()
    own.stop()
    own.start()
    waiting.join(timeout=60)
    assert value(own.connect().cursor(), "select count(*) from t") == 0


def _ignoring_errors(cursor: SnowflakeCursor, sql: str) -> None:
    with suppress(Error):
        cursor.execute(sql)


def test_session_of_an_earlier_server_is_told_that_it_is_gone(own: StandIn) -> None:
    cursor = own.connect().cursor()
    own.kill()
    own.start()
    with pytest.raises(DatabaseError) as e:
        cursor.execute("select 1")
    assert e.value.errno == 390111
    assert "Session no longer exists" in str(e.value)


def test_open_transaction_of_a_killed_client_is_rolled_back(
    stand_in: StandIn, schema: str, cursor: SnowflakeCursor
) -> None:
    cursor.execute("create table t (a integer)")
    cursor.execute("insert into t values (1)")
    client = f"""
from local.snowflake.client import connect
cursor = connect({stand_in.port}, schema="{schema}").cursor()
cursor.execute("begin")
cursor.execute("update t set a = 2")
print("ready", flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", client], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]
    cursor.execute("alter session set lock_timeout = 30")
    cursor.execute("update t set a = a + 10")
    assert value(cursor, "select a from t") == 11


def test_idle_transaction_that_blocks_another_is_rolled_back_and_its_client_told(tmp_path: Path) -> None:
    """ "If a transaction is idle for five minutes and blocks another, it is aborted." Here after --idle-s."""
    server = StandIn(tmp_path / "data", options=("--idle-s", "2"))
    server.start()
    try:
        idle, waiting = server.connect().cursor(), server.connect().cursor()
        idle.execute("create table t (a integer)")
        idle.execute("insert into t values (1)")
        idle.execute("begin")
        idle.execute("update t set a = 2")
        waiting.execute("alter session set lock_timeout = 30")
        waiting.execute("update t set a = a + 10")
        assert value(waiting, "select a from t") == 11
        for sql in ("insert into t values (5)", "commit"):
            with pytest.raises(ProgrammingError, match="rolled back"):
                idle.execute(sql)
        idle.execute("rollback")
        assert value(idle, "select a from t") == 11
    finally:
        server.stop()


def test_health_answers_when_it_is_ready(stand_in: StandIn) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{stand_in.port}/health") as answer:
        assert answer.status == 200


def test_port_or_folder_in_use_is_said_at_start(stand_in: StandIn, tmp_path: Path) -> None:
    python = Path(sys.prefix).parent / "warehouse" / "bin" / "python"
    for port, data, words in ((stand_in.port, tmp_path / "x", "port"), (0, stand_in.data, "cannot be opened")):
        done = subprocess.run(
            [python, "-m", "local.snowflake", "--port", str(port), "--data", str(data)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        assert done.returncode == 1
        assert words in done.stderr


def test_statement_timeout_ends_a_long_query(cursor: SnowflakeCursor) -> None:
    cursor.execute("alter session set statement_timeout_in_seconds = 1")
    with pytest.raises(ProgrammingError) as e:
        cursor.execute(
            "select count(*) from table(generator(rowcount => 1000000)) a, table(generator(rowcount => 1000000)) b"
        )
    assert (e.value.errno, e.value.sqlstate) == (630, "57014")
    assert value(cursor, "select 1") == 1


def test_many_sessions_wait_for_a_lock_without_keeping_out_its_holder(
    connect: Callable[..., SnowflakeConnection], cursor: SnowflakeCursor
) -> None:
    cursor.execute("create table t (a integer)")
    cursor.execute("insert into t values (0)")
    cursor.execute("begin")
    cursor.execute("update t set a = a + 1")
    others = [connect().cursor() for _ in range(24)]
    threads = [threading.Thread(target=c.execute, args=("update t set a = a + 1",)) for c in others]
    for thread in threads:
        thread.start()
    cursor.execute("commit")
    for thread in threads:
        thread.join(timeout=60)
    assert value(cursor, "select a from t") == 25
