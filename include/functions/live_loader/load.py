"""A batch of minutes into the live tables: one COPY for all of them, then newest version wins, in one transaction.

Loaded again, or after a newer one, a batch changes nothing. Those who load at once take turns. No staged row outlives
its transaction, so that nobody ever sees another's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from include.functions.warehouse import Row, Session
from include.sql import bound, statements

_SAFE_PATH = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*\.parquet")
Count = Annotated[int, Meta(ge=0, lt=10**18)]
Version = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Moment = Annotated[datetime, Meta(tz=True)]


class Unfit(ValueError):
    """A batch that will never be loaded: what is wrong with it. Nothing of it was loaded."""


class Notice(Struct, frozen=True):
    """What the streaming job says of a batch. uri: its Parquet file; rows: in it. minutes: the first and the last one.
    final_until: minutes before it are final, None while none is. events, late_to_stream, rejected: since the batch
    before."""

    batch_id: Annotated[str, Meta(min_length=1, max_length=64)]
    uri: Annotated[str, Meta(max_length=1024)]
    rows: Count
    version: Version
    minutes: tuple[Moment, Moment] | None
    final_until: Moment | None
    events: Count
    late_to_stream: Count
    rejected: Count
    written_ts: Moment
    newest_arrival_ts: Moment | None


decode = msgspec.json.Decoder(Notice).decode


def load(session: Session, store: str, notice: Notice) -> None:
    """Loads the batch. To be called in a transaction. store: base URI of the files,
    without a quote, backslash or closing slash. Raises Unfit."""
    # First, as a lock: INSERT and COPY wait for nobody, a MERGE for whoever has merged and not committed.
    _run_file(session, "live/batch.sql", **_batch(notice))
    if notice.rows:
        _copy(session, store, notice)
        _merge(session, notice)


def path_below(store: str, uri: str) -> str:
    """The path of a batch's file below <store>/live. Raises Unfit when it is not one, however it is written."""
    root = f"{store}/live/"
    path = uri.removeprefix(root)
    if not uri.startswith(root) or not _SAFE_PATH.fullmatch(path):
        raise Unfit(
            f"{uri[:200]!r} is no Parquet file below {root}: only what the streaming job writes there is loaded"
        )
    return path


def _copy(session: Session, store: str, notice: Notice) -> None:
    from snowflake.connector.errors import ProgrammingError

    path = path_below(store, notice.uri)
    # FORCE: a batch that comes again is no error.
    copy = (
        f"copy into staging.live_minute from '{store}/live/' files = ('{path}') "
        "file_format = (type = parquet) match_by_column_name = case_insensitive force = true "
        "on_error = abort_statement"
    )
    try:
        (loaded,) = session.rows(copy)
    except ProgrammingError as error:
        # Class 22 is a data exception; a lock's timeout, a cancelled statement and the like may pass.
        if not (error.sqlstate or "").startswith("22"):
            raise
        words = " ".join((error.raw_msg or "").partition("\n\n")[0].split())
        raise Unfit(f"{notice.uri} cannot be loaded: {words}") from error
    if loaded["rows_loaded"] != notice.rows:
        raise Unfit(f"{notice.uri} has {loaded['rows_loaded']} rows, its notice says {notice.rows}: it is another file")


def _merge(session: Session, notice: Notice) -> None:
    (staged,) = _run_file(session, "live/staged.sql")
    if staged["fit"] != notice.rows:
        raise Unfit(
            f"{notice.uri}: {notice.rows - staged['fit']} of {notice.rows} rows lack a column, or are neither sales "
            "nor activity: it is no batch of minutes, or of another version of the streaming job"
        )
    minutes = {"first_minute": staged["first_minute"], "last_minute": staged["last_minute"]}
    for name in ("sales_minute", "sales_outdated", "activity_minute", "activity_outdated"):
        _run_file(session, f"live/{name}.sql", **minutes)
    session.run("delete from staging.live_minute")


def _run_file(session: Session, name: str, **parameters: Any) -> list[Row]:
    """The rows of include/sql/`name`, which is one statement."""
    (statement,) = statements(name)
    return session.rows(bound(statement), **parameters)


def _batch(notice: Notice) -> dict[str, Any]:
    first, last = notice.minutes or (None, None)
    return {
        **{name: getattr(notice, name) for name in ("batch_id", "version", "events", "late_to_stream", "rejected")},
        "first_minute": _naive(first),
        "last_minute": _naive(last),
        **{name: _naive(getattr(notice, name)) for name in ("final_until", "written_ts", "newest_arrival_ts")},
    }


def _naive(moment: datetime | None) -> datetime | None:
    """As the warehouse keeps time: UTC, without saying so."""
    return moment and moment.astimezone(UTC).replace(tzinfo=None)
