"""Errors as Snowflake reports them: a number, a SQL state and a message for the person who must act."""

from __future__ import annotations

import duckdb
from snowflake.connector.errors import Error, ProgrammingError

# (part of DuckDB's message, Snowflake's errno, sqlstate, Snowflake's own words): the first that fits.
_BY_MESSAGE: tuple[tuple[str, int, str, str], ...] = (
    ("cannot affect the same target row more than once", 100090, "42P18", "Duplicate row detected during DML action"),
    ("NOT NULL constraint failed", 100072, "22000", "NULL result in a non-nullable column"),
    ("Could not write file", 91016, "58030", "The warehouse's data folder cannot be written: is the disk full?"),
    ("Division by zero", 100051, "22012", "Division by zero"),
    ("does not exist", 2003, "42S02", "SQL compilation error: Object does not exist or not authorized"),
    ("already exists", 2002, "42710", "SQL compilation error: Object already exists"),
    ("not found in FROM clause", 904, "42000", "SQL compilation error: invalid identifier"),
    ("does not have a column", 904, "42000", "SQL compilation error: invalid identifier"),
)

_BY_TYPE: tuple[tuple[type[duckdb.Error], int, str, str], ...] = (
    (duckdb.InterruptException, 604, "57014", "SQL execution canceled"),
    (duckdb.ParserException, 1003, "42000", "SQL compilation error: syntax error"),
    (duckdb.CatalogException, 2003, "42S02", "SQL compilation error: Object does not exist or not authorized"),
    (duckdb.BinderException, 2043, "02000", "SQL compilation error"),
    (duckdb.ConversionException, 100038, "22018", "Value cannot be converted to the column's or the cast's type"),
    (duckdb.OutOfRangeException, 100039, "22003", "Numeric value is out of range"),
    (duckdb.OutOfMemoryException, 300005, "XX000", "The stand-in's memory limit is reached"),
    (duckdb.TransactionException, 625, "57014", "The statement conflicts with another transaction"),
    (duckdb.InvalidInputException, 100152, "22000", "Error parsing the data: it is broken or of another format"),
    (duckdb.IOException, 91016, "22000", "A file could not be read or written"),
)


def error(errno: int, sqlstate: str, message: str) -> ProgrammingError:
    """A ProgrammingError that the server sends to the client as it is."""
    return ProgrammingError(msg=message, errno=errno, sqlstate=sqlstate)


def refused(what: str, why: str = "") -> ProgrammingError:
    """Snowflake's "unsupported feature" for what the stand-in does not do: better no answer than another one."""
    return error(2, "0A000", f"Unsupported feature '{what}'.{' ' + why if why else ''} See docs/deviations.md.")


def from_exception(exception: BaseException, sql: str) -> ProgrammingError:
    """Any exception of a statement as Snowflake would report it; `sql` names the statement where nothing else does."""
    cause = exception.__cause__
    if isinstance(exception, Error):
        # fakesnow has translated it already, often by its type alone: look at DuckDB's own words again.
        if isinstance(cause, duckdb.Error):
            return _from_duckdb(cause)
        return error(exception.errno or 2099, exception.sqlstate or "XX000", str(exception.raw_msg or exception.msg))
    if isinstance(exception, duckdb.Error):
        return _from_duckdb(exception)
    return error(2099, "XX000", f"{type(exception).__name__}: {exception}\nin: {' '.join(sql.split())[:300]}")


def _from_duckdb(exception: duckdb.Error) -> ProgrammingError:
    detail = str(exception).strip()
    for part, errno, sqlstate, words in _BY_MESSAGE:
        if part in detail:
            return error(errno, sqlstate, f"{words}\n{detail}")
    for kind, errno, sqlstate, words in _BY_TYPE:
        if isinstance(exception, kind):
            return error(errno, sqlstate, f"{words}\n{detail}")
    return error(2099, "XX000", detail)
