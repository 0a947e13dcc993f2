"""COPY INTO a table from Parquet files at a stage: all files or none, each file once unless FORCE or changed."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import duckdb
from duckdb import DuckDBPyConnection
from fakesnow.transforms.options import parse_options
from fakesnow.transforms.stage import not_found_error, parts_from_var
from sqlglot import exp

from local.snowflake.errors import error, refused

MAX_FILES = 1000
HISTORY_DAYS = 64  # Snowflake's
HISTORY_SQL = """
create table if not exists {catalog}._fs_information_schema._fs_load_etag (
    schema_name varchar, table_name varchar, file_name varchar, etag varchar
)
"""
COLUMNS = [
    ("file", "VARCHAR"),
    ("status", "VARCHAR"),
    ("rows_parsed", "BIGINT"),
    ("rows_loaded", "BIGINT"),
    ("error_limit", "BIGINT"),
    ("errors_seen", "BIGINT"),
    ("first_error", "VARCHAR"),
    ("first_error_line", "BIGINT"),
    ("first_error_character", "BIGINT"),
    ("first_error_column_name", "VARCHAR"),
]


@dataclass(frozen=True)
class Options:
    """COPY options that are understood; any other is refused."""

    files: tuple[str, ...] | None = None
    force: bool = False
    is_case_sensitive: bool = False


@dataclass(frozen=True)
class File:
    """One file to load. etag: changes when its content may have."""

    url: str
    path: Path
    etag: str


Row = tuple[str, str, int, int, int | None, int, str | None, None, None, None]


def copy_into(duck: DuckDBPyConnection, copy: exp.Copy, database: str, schema: str) -> list[Row]:
    """Load the files, in the caller's transaction; returns Snowflake's row for each file (columns: COLUMNS).

    Raises for a missing or broken file, too many files, or rows that do not fit; the caller must roll back then.
    """
    if not isinstance(copy.this, exp.Table):
        raise refused("COPY INTO with a column list", "Use MATCH_BY_COLUMN_NAME.")
    catalog, table_schema, table = copy.this.catalog or database, copy.this.db or schema, copy.this.name
    options = _options(copy)
    files = _files(duck, copy, options, database, schema)
    before = _loaded(duck, catalog, table_schema, table)
    wanted = [f for f in files if options.force or before.get(f.url) != f.etag]
    try:
        counts = _load(duck, wanted, (catalog, table_schema, table), options)
    except duckdb.Error as e:
        # What DuckDB's Parquet reader finds wrong inside a file has no class of its own and names no file.
        if type(e) is not duckdb.Error:
            raise
        urls = ", ".join(f.url for f in wanted[:5])
        raise error(100152, "22000", f"Error parsing the Parquet file: {e}\none of {urls}") from None
    _remember(duck, wanted, counts, (catalog, table_schema, table))
    return [
        (f.url, "LOADED", counts[f.url], counts[f.url], 1, 0, None, None, None, None)
        if f.url in counts
        else (f.url, "LOAD_SKIPPED", 0, 0, None, 1, "File was loaded before.", None, None, None)
        for f in files
    ]


def forget(duck: DuckDBPyConnection, table: exp.Table, database: str, schema: str) -> None:
    """A table that is created, dropped or truncated has no load history."""
    catalog = table.catalog or database
    for history in ("_fs_load_etag", "_fs_load_history"):
        duck.execute(
            f"delete from {catalog}._fs_information_schema.{history} where schema_name = ? and table_name = ?",
            [table.db or schema, table.name],
        )


def _options(copy: exp.Copy) -> Options:
    files: tuple[str, ...] | None = None
    flags = {"FORCE": False, "PURGE": False}
    match_by = file_format = ""
    for parameter in copy.args.get("params") or []:
        name, value = parameter.name.upper(), parameter.expression
        text = value.name.upper() if value is not None else ""
        if name == "FILES":
            files = tuple(literal.name for literal in parameter.find_all(exp.Literal))
        elif name == "FILE_FORMAT":
            given = parse_options(parameter.expressions)
            file_format = str(given.pop("TYPE", "")).upper()
            if set(given) - {"USE_LOGICAL_TYPE", "USE_VECTORIZED_SCANNER", "COMPRESSION", "BINARY_AS_TEXT"}:
                raise refused(f"FILE_FORMAT = ({', '.join(given)})", "Only TYPE = PARQUET is loaded.")
        elif name == "MATCH_BY_COLUMN_NAME":
            match_by = text
        elif name in flags:
            flags[name] = value.this if isinstance(value, exp.Boolean) else text == "TRUE"
        elif not (name == "ON_ERROR" and text == "ABORT_STATEMENT"):
            raise refused(f"COPY INTO ... {name} = {text or parameter.sql(dialect='snowflake')}")
    if flags["PURGE"]:
        raise refused("COPY INTO ... PURGE = TRUE")
    if file_format != "PARQUET" or match_by not in {"CASE_INSENSITIVE", "CASE_SENSITIVE"}:
        raise refused(
            f"COPY INTO with FILE_FORMAT TYPE = {file_format or 'CSV'}, MATCH_BY_COLUMN_NAME = {match_by or 'NONE'}",
            "Use FILE_FORMAT = (TYPE = PARQUET) and MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE.",
        )
    if files is not None and len(files) > MAX_FILES:
        raise error(
            1013, "42601", f"SQL compilation error: FILES lists {len(files)} files, but COPY INTO takes at most "
            f"{MAX_FILES}: split the list over several statements of one transaction.",
        )  # fmt: skip
    return Options(files, flags["FORCE"], match_by == "CASE_SENSITIVE")


def _files(duck: DuckDBPyConnection, copy: exp.Copy, options: Options, database: str, schema: str) -> list[File]:
    source = copy.args["files"][0].this
    if isinstance(source, exp.Select) or not isinstance(source, (exp.Var, exp.Literal)):
        raise refused("COPY INTO ... FROM (SELECT ...)", "Use MATCH_BY_COLUMN_NAME.")
    base = source.name
    if isinstance(source, exp.Var):
        name, _, path = base.removeprefix("@").partition("/")
        parts = parts_from_var(name, database, schema)
        found = duck.execute(
            "select url from _fs_global._fs_information_schema._fs_stages"
            " where database_name = ? and schema_name = ? and name = ?",
            list(parts),
        ).fetchone()
        if not found:
            raise not_found_error(".".join(parts))
        base = f"{found[0].rstrip('/')}/{path}"
    if urlparse(base).scheme != "file":
        raise refused(f"COPY INTO ... FROM {base}", "The stand-in reads file:// only.")
    folder = Path(unquote(urlparse(base).path))
    if options.files is None:
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
    else:
        paths = [folder / name for name in options.files]
    return [_file(path) for path in paths]


def _file(path: Path) -> File:
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise error(
            91016, "22000", f"Remote file '{path.as_uri()}' was not found: write it before COPY INTO, or "
            "correct its name in FILES. Nothing was loaded.",
        ) from None  # fmt: skip
    return File(path.as_uri(), path, f"{stat.st_size}-{stat.st_mtime_ns}")


def _loaded(duck: DuckDBPyConnection, catalog: str, schema: str, table: str) -> dict[str, str]:
    rows = duck.execute(
        f"select file_name, etag from {catalog}._fs_information_schema._fs_load_etag"
        " where schema_name = ? and table_name = ?",
        [schema, table],
    ).fetchall()
    return dict(rows)


def _load(
    duck: DuckDBPyConnection, files: list[File], target: tuple[str, str, str], options: Options
) -> dict[str, int]:
    """Insert the files' rows, files with the same columns together; returns rows by url."""
    name = ".".join(f'"{part}"' for part in target)
    columns = [row[0] for row in duck.execute(f"describe {name}").fetchall()]
    counts: dict[str, int] = {}
    by_columns: dict[tuple[str, ...], list[File]] = defaultdict(list)
    for f in files:
        by_columns[_parquet_columns(duck, f)].append(f)
    for found, group in by_columns.items():
        key = str if options.is_case_sensitive else str.upper
        there = {key(column): column for column in found}
        matched = [(column, there[key(column)]) for column in columns if key(column) in there]
        if not matched:
            raise error(
                2043, "22000", f"{group[0].url} has none of the columns of {'.'.join(target)}: it has "
                f"{', '.join(found)}. Nothing was loaded.",
            )  # fmt: skip
        paths = [str(f.path) for f in group]
        into = ", ".join(f'"{column}"' for column in columns)
        given = dict(matched)
        values = ", ".join(f'"{given[c]}"' if c in given else "NULL" for c in columns)
        duck.execute(f"insert into {name} ({into}) select {values} from read_parquet(?)", [paths])
        rows = duck.execute("select file_name, num_rows from parquet_file_metadata(?)", [paths]).fetchall()
        by_path = dict(rows)
        counts |= {f.url: by_path[str(f.path)] for f in group}
    return counts


def _parquet_columns(duck: DuckDBPyConnection, f: File) -> tuple[str, ...]:
    # of a glob's special characters only these can be in a name that FILES gives
    if any(c in str(f.path) for c in "*?["):
        raise refused(f"a file name with a wildcard: {f.path}")
    rows = duck.execute("describe select * from read_parquet(?)", [str(f.path)]).fetchall()
    return tuple(row[0] for row in rows)


def _remember(
    duck: DuckDBPyConnection, files: list[File], counts: dict[str, int], target: tuple[str, str, str]
) -> None:
    catalog, schema, table = target
    if not files:
        return
    urls, now = [f.url for f in files], dt.datetime.now(dt.UTC)
    information = f"{catalog}._fs_information_schema"
    expired = duck.execute(
        f"delete from {information}._fs_load_history"
        " where schema_name = ? and table_name = ? and last_load_time < ? returning file_name",
        [schema, table, now - dt.timedelta(days=HISTORY_DAYS)],
    ).fetchall()
    if expired:
        duck.execute(
            f"delete from {information}._fs_load_etag"
            " where schema_name = ? and table_name = ? and list_contains(?::varchar[], file_name)",
            [schema, table, [name for (name,) in expired]],
        )
    for history in ("_fs_load_etag", "_fs_load_history"):
        duck.execute(
            f"delete from {information}.{history}"
            " where schema_name = ? and table_name = ? and list_contains(?::varchar[], file_name)",
            [schema, table, urls],
        )
    duck.execute(
        f"insert into {information}._fs_load_etag select ?, ?, unnest(?::varchar[]), unnest(?::varchar[])",
        [schema, table, urls, [f.etag for f in files]],
    )
    rows = [counts[url] for url in urls]
    duck.execute(
        f"insert into {information}._fs_load_history (schema_name, file_name, table_name, last_load_time, status,"
        " row_count, row_parsed, error_count, error_limit)"
        " select ?, unnest(?::varchar[]), ?, ?, 'LOADED', unnest(?::bigint[]), unnest(?::bigint[]), 0, 1",
        [schema, urls, table, now, rows, rows],
    )
