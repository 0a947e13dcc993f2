"""The databases on disk and the connections to them: one DuckDB instance, one file a database."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import duckdb
from fakesnow import info_schema, macros
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.transforms import show, stage

from local.snowflake import copy_into

# Snowflake's TABLES has the views too; fakesnow's has not.
info_schema.SQL_CREATE_INFORMATION_SCHEMA_TABLES_VIEW.template = (
    info_schema.SQL_CREATE_INFORMATION_SCHEMA_TABLES_VIEW.template.rstrip()
    + """
union all by name
select database_name as "TABLE_CATALOG", schema_name as "TABLE_SCHEMA", view_name as "TABLE_NAME",
    'SYSADMIN' as "TABLE_OWNER", 'VIEW' as "TABLE_TYPE", 'NO' as "IS_TRANSIENT"
from duckdb_views()
where database_name = '${catalog}' and schema_name != '_fs_information_schema' and not internal
"""
)
_insert_table_comment_sql = info_schema.insert_table_comment_sql


def _insert_table_comment(catalog: str, schema: str, table: str, comment: str | None) -> str:
    """fakesnow puts the comment into its statement as it is: a quote in it would end the literal."""
    sql: str = _insert_table_comment_sql(catalog, schema, table, (comment or "").replace("'", "''"))
    return sql


info_schema.insert_table_comment_sql = _insert_table_comment


class Warehouse:
    """Everything under one folder, committed data durable across kill -9; raises duckdb.IOException if it is in use."""

    def __init__(self, data: Path, memory_limit: str, threads: int) -> None:
        self._data = data
        self.ddl = threading.Lock()  # DuckDB refuses two catalog changes at once
        (data / "tmp").mkdir(parents=True, exist_ok=True)
        # fakesnow keeps the files of internal stages in a folder that it makes in /tmp at each start and leaves there.
        shutil.rmtree(stage.LOCAL_BUCKET_PATH, ignore_errors=True)
        stage.LOCAL_BUCKET_PATH = str(data / "stages")
        self._duck = duckdb.connect(
            ":memory:",
            config={
                "lambda_syntax": "ENABLE_SINGLE_ARROW",  # sqlglot still writes arrow lambdas
                "memory_limit": memory_limit,
                "threads": threads,
                "temp_directory": str(data / "tmp"),
            },
        )
        self._duck.execute("SET GLOBAL TimeZone = 'UTC'")
        # fakesnow keeps stages and comments in a database of its own, in memory: here they must survive.
        self._duck.execute(f"ATTACH '{_quoted(data / '_fs_global.meta')}' AS _fs_global")
        self._duck.execute(info_schema.fs_global_creation_sql())
        self._duck.execute(show.fs_global_creation_sql())
        for file in sorted(data.glob("*.db")):
            self.attach(file.stem)

    def attach(self, database: str) -> None:
        """Open the database, create it if there is none."""
        self._duck.execute(f"ATTACH IF NOT EXISTS '{_quoted(self._data / f'{database}.db')}' AS {database}")
        self.prepare(database)
        self._duck.execute(f"CREATE SCHEMA IF NOT EXISTS {database}.PUBLIC")

    def prepare(self, database: str) -> None:
        """The information schema, macros and load history that each database needs."""
        self._duck.execute(info_schema.per_db_creation_sql(database))
        self._duck.execute(macros.creation_sql(database))
        self._duck.execute(copy_into.HISTORY_SQL.format(catalog=database))

    def connect(self, database: str | None, schema: str | None) -> FakeSnowflakeConnection:
        """A session's own connection, in PUBLIC unless it says otherwise, and nowhere if it names what is not there."""
        return FakeSnowflakeConnection(
            self._duck.cursor(),
            {},  # a result cache of its own: sessions see nothing of each other
            database,
            schema or ("PUBLIC" if database else None),
            create_database=False,
            create_schema=False,
            db_path=self._data,
        )

    def close(self) -> None:
        """Write the log into the database files."""
        self._duck.close()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
