"""schemachange, unmodified, migrates the stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from snowflake.connector.cursor import SnowflakeCursor

from tests.conformance.conftest import StandIn, rows, value


def deploy(stand_in: StandIn, scripts: Path, history: str) -> str:
    """Run schemachange over the scripts; returns its output, which names each script that it applies."""
    environment = {
        "SNOWFLAKE_ACCOUNT": "local", "SNOWFLAKE_USER": "local", "SNOWFLAKE_PASSWORD": "local",
        "SNOWFLAKE_HOST": "127.0.0.1", "SNOWFLAKE_PORT": str(stand_in.port), "SNOWFLAKE_PROTOCOL": "http",
        "SNOWFLAKE_DATABASE": "MADHATTER", "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
    }  # fmt: skip
    schemachange = Path(sys.prefix).parent / "warehouse" / "bin" / "schemachange"
    command = [
        str(schemachange),
        "deploy",
        "-f",
        str(scripts),
        "-c",
        history,
        "--schemachange-create-change-history-table",
    ]
    done = subprocess.run(
        command, env=os.environ | environment, cwd=scripts, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_second_run_applies_nothing_and_a_changed_view_is_applied_again(
    stand_in: StandIn, schema: str, cursor: SnowflakeCursor, tmp_path: Path
) -> None:
    history = f"MADHATTER.{schema}.CHANGE_HISTORY"
    (tmp_path / "V1.0.0__first.sql").write_text(
        f"create table if not exists {schema}.t (topic varchar, partition integer, primary key (topic));\n"
        f"-- a comment; with a semicolon\ninsert into {schema}.t (topic) values ('a;b');\n"
    )
    view = tmp_path / "R__views.sql"
    view.write_text(
        f"create or replace view {schema}.v copy grants as select topic from {schema}.t;\n"
        f"comment on view {schema}.v is 'it''s a view';\n"
    )
    first = deploy(stand_in, tmp_path, history)
    assert "V1.0.0__first.sql" in first
    assert rows(cursor, "select * from v") == [("a;b",)]
    applied = f"select count(*) from {history}"
    assert value(cursor, applied) == 2
    deploy(stand_in, tmp_path, history)
    assert value(cursor, applied) == 2
    view.write_text(view.read_text().replace("select topic", "select topic, partition"))
    deploy(stand_in, tmp_path, history)
    assert value(cursor, applied) == 3
    assert rows(cursor, "select * from v") == [("a;b", None)]
