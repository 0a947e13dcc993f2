"""What the platform needs of Snowflake, run against the stand-in or, with the same tests, a real account.

MADHATTER_CONFORMANCE_TARGET=snowflake takes the connection that MADHATTER_CONFORMANCE_CONNECTION names in the
connector's connections.toml; its role must be able to create schemas in the connection's database. By default a
stand-in is started on a free port with an empty folder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from snowflake.connector import SnowflakeConnection
from snowflake.connector.cursor import SnowflakeCursor

from local.snowflake.client import connect as connect_to_stand_in

ROOT = Path(__file__).parents[2]
IS_REAL = os.environ.get("MADHATTER_CONFORMANCE_TARGET") == "snowflake"

# What only the stand-in is asked: kill -9, restarts, refusals of what Snowflake can do.
collect_ignore = ["standin"] if IS_REAL else []


@dataclass
class StandIn:
    """A stand-in in a process of its own, over one data folder."""

    data: Path
    port: int = 0
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it and wait until it is ready; raises with its log when it ends instead."""
        if not self.port:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                self.port = s.getsockname()[1]
        python = Path(sys.prefix).parent / "warehouse" / "bin" / "python"
        command = [
            str(python),
            "-m",
            "local.snowflake",
            "--port",
            str(self.port),
            "--data",
            str(self.data),
            *self.options,
        ]
        log = self.data.parent / f"{self.data.name}.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        deadline = time.monotonic() + 60
        while True:
            with suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            assert self.process.poll() is None, f"the stand-in did not start: {log.read_text()}"
            assert time.monotonic() < deadline, f"the stand-in is not ready after 60 s: {log.read_text()}"
            self.process.poll()
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=30)

    def connect(self, **options: Any) -> SnowflakeConnection:
        """A session on it."""
        return connect_to_stand_in(self.port, **options)


@dataclass(frozen=True)
class Stage:
    """A stage that COPY INTO reads, and the folder that its files come from."""

    name: str
    folder: Path
    cursor: SnowflakeCursor

    def add(self, file: str, content: pa.Table | bytes) -> str:
        """Write a Parquet file (or any bytes) at the stage; returns its name there."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pq.write_table(content, path)
        if IS_REAL:
            self.cursor.execute(f"put '{path.as_uri()}' @{self.name} auto_compress = false overwrite = true")
        return file


@pytest.fixture(scope="package")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The one that all tests share which do not stop it."""
    server = StandIn(tmp_path_factory.mktemp("warehouse") / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def open_session(request: pytest.FixtureRequest) -> Callable[..., SnowflakeConnection]:
    """A function that opens one more session, with any of the connector's options."""
    if IS_REAL:
        name = os.environ["MADHATTER_CONFORMANCE_CONNECTION"]
        return lambda **options: snowflake.connector.connect(connection_name=name, **options)
    server: StandIn = request.getfixturevalue("stand_in")
    return server.connect


@pytest.fixture
def schema(open_session: Callable[..., SnowflakeConnection]) -> Iterator[str]:
    """A schema of the test's own, dropped afterwards."""
    name = f"CONFORMANCE_{uuid.uuid4().hex[:12]}".upper()
    with open_session() as connection:
        connection.cursor().execute(f"create schema {name}")
        yield name
        connection.cursor().execute(f"drop schema {name} cascade")


@pytest.fixture
def connect(
    open_session: Callable[..., SnowflakeConnection], schema: str
) -> Iterator[Callable[..., SnowflakeConnection]]:
    """Opens sessions in the test's schema; they are closed after it."""
    opened: list[SnowflakeConnection] = []

    def session(**options: Any) -> SnowflakeConnection:
        opened.append(open_session(**{"schema": schema, **options}))
        return opened[-1]

    yield session
    for connection in opened:
        connection.close()


@pytest.fixture
def cursor(connect: Callable[..., SnowflakeConnection]) -> SnowflakeCursor:
    """A cursor of one session in the test's schema."""
    return connect().cursor()


@pytest.fixture
def other(connect: Callable[..., SnowflakeConnection]) -> SnowflakeCursor:
    """A cursor of another session in the test's schema."""
    return connect().cursor()


@pytest.fixture
def stage(cursor: SnowflakeCursor, tmp_path: Path) -> Stage:
    """A stage without files."""
    folder = tmp_path / "stage files"  # a blank, as folders have them
    folder.mkdir()
    cursor.execute("create stage files" if IS_REAL else f"create stage files url = '{folder.as_uri()}/'")
    return Stage("files", folder, cursor)


def run(cursor: SnowflakeCursor, sql: str, params: Any = None) -> SnowflakeCursor:
    """Execute; returns the cursor."""
    cursor.execute(sql, params)
    return cursor


def rows(cursor: SnowflakeCursor, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return [tuple(row) for row in run(cursor, sql, params).fetchall()]


def value(cursor: SnowflakeCursor, sql: str, params: Any = None) -> Any:
    """The one value of a query."""
    ((only,),) = rows(cursor, sql, params)
    return only
