"""What differs between environments, from environment variables: cheap to read when a DAG file is parsed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

MOST_DAYS = 36_500


class SettingError(ValueError):
    """A setting that cannot be used: its name, what was found, what is expected."""


@dataclass(frozen=True)
class Settings:
    """cadence: cron of the windows; window, tail: their length and the wait for stragglers after it.
    start: the first window. store: base URI of plans, slices and archive. chunk_size: offsets.
    keep_*: how long something is kept, docs/how-to/retention.md; keep_log 0: topics are not bounded by time.
    log_bytes: of a partition in the log, 0: topics are not bounded by size. stream: whether retail_stream keeps a
    streaming job; stream_tries: jobs in a row that may fail before it gives up."""

    cadence: str
    window: timedelta
    tail: timedelta
    start: datetime
    catch_up_after: timedelta
    store: str
    chunk_size: int
    stream: bool
    stream_tries: int
    keep_log: timedelta
    log_bytes: int
    keep_staging: timedelta
    keep_audit_pages: timedelta
    keep_archive: timedelta
    keep_dead_letters: timedelta
    keep_metrics: timedelta
    keep_live: timedelta
    keep_alerts: timedelta
    keep_airflow: timedelta


@cache
def settings() -> Settings:
    """The environment's settings. Raises SettingError."""
    return Settings(
        cadence=os.environ.get("MADHATTER_CADENCE", "0 * * * *"),
        window=_seconds("MADHATTER_WINDOW_S", 3600, at_least=1),
        tail=_seconds("MADHATTER_TAIL_S", 120),
        start=_moment("PLATFORM_START"),
        catch_up_after=_seconds("MADHATTER_CATCH_UP_AFTER_S", 6 * 3600),
        store=_required("MADHATTER_STORE"),
        chunk_size=_count("MADHATTER_CHUNK_SIZE", 100_000),
        stream=_switch("MADHATTER_STREAM", "on"),
        stream_tries=_count("MADHATTER_STREAM_TRIES", 8, at_most=1000),
        keep_log=_days("MADHATTER_KEEP_LOG_DAYS", 30, at_least=0),
        log_bytes=_count("MADHATTER_KEEP_LOG_MB", 0, at_least=0, at_most=10**6) << 20,
        keep_staging=_days("MADHATTER_KEEP_STAGING_DAYS", 7),
        keep_audit_pages=_days("MADHATTER_KEEP_AUDIT_PAGES_DAYS", 90),
        keep_archive=_days("MADHATTER_KEEP_ARCHIVE_DAYS", 365),
        keep_dead_letters=_days("MADHATTER_KEEP_DEAD_LETTERS_DAYS", 90),
        keep_metrics=_days("MADHATTER_KEEP_METRICS_DAYS", 90),
        keep_live=_days("MADHATTER_KEEP_LIVE_DAYS", 3),
        # A message may come again out of 31 days among the dead letters; an offer counts for a week around its cart.
        keep_alerts=_days("MADHATTER_KEEP_ALERTS_DAYS", 90, at_least=40),
        keep_airflow=_days("MADHATTER_KEEP_AIRFLOW_DAYS", 30),
    )


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SettingError(f"{name} is not set; docs/settings.md says what it is")
    return value


def _switch(name: str, default: str) -> bool:
    text = os.environ.get(name, default)
    if text not in ("on", "off"):
        raise SettingError(f"{name}={text!r} is neither on nor off")
    return text == "on"


def _seconds(name: str, default: int, at_least: int = 0) -> timedelta:
    return timedelta(seconds=_count(name, default, at_least))


def _days(name: str, default: int, at_least: int = 1) -> timedelta:
    return timedelta(days=_count(name, default, at_least, at_most=MOST_DAYS))


def _count(name: str, default: int, at_least: int = 1, at_most: int = 10**9) -> int:
    text = os.environ.get(name, str(default))
    # isdecimal() takes other alphabets' digits too, and int() any number of them.
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and at_least <= int(text) <= at_most):
        raise SettingError(f"{name}={text!r} is not a whole number from {at_least} to {at_most}")
    return int(text)


def _moment(name: str) -> datetime:
    text = os.environ.get(name)
    if not text:
        # Parsing a DAG must not need a running platform: without a start nothing is scheduled before today.
        return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingError(f"{name}={text!r} is not a time such as 2026-11-23T10:00:00+00:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def check() -> None:
    """Raises SettingError when the settings do not fit together; needs Airflow's cron reader, so not for DAG files."""
    from croniter import croniter

    config = settings()
    check_retention()
    if "://" not in config.store:
        raise SettingError(f"MADHATTER_STORE={config.store!r} is no URI such as file:///data or gs://bucket/data")
    if not croniter.is_valid(config.cadence):
        raise SettingError(f"MADHATTER_CADENCE={config.cadence!r} is no cron expression such as '0 * * * *'")
    if not croniter.match(config.cadence, config.start):
        raise SettingError(
            f"PLATFORM_START={config.start.isoformat()} is no tick of MADHATTER_CADENCE={config.cadence!r}"
        )
    ticks = croniter(config.cadence, config.start)
    before = ticks.get_next(datetime)
    for _ in range(200):
        tick = ticks.get_next(datetime)
        if tick - before != config.window:
            raise SettingError(
                f"MADHATTER_CADENCE={config.cadence!r} has ticks {tick - before} apart, but a window is "
                f"{config.window} long (MADHATTER_WINDOW_S): they must be the same, or events fall between windows"
            )
        before = tick


def check_retention() -> None:
    """Raises SettingError when something would be removed that something else still needs."""
    from include.contracts.contract import contract, topics

    config = settings()
    if not config.keep_log and not config.log_bytes:
        raise SettingError(
            "MADHATTER_KEEP_LOG_DAYS=0 and MADHATTER_KEEP_LOG_MB=0: the log would grow for ever. Bound it by time, by "
            "size, or by both"
        )
    # The oldest offsets that a plan may still want: a window that is so late takes all windows up to now.
    reach = config.catch_up_after + config.window + config.tail
    if reach > config.keep_staging:
        raise SettingError(
            f"MADHATTER_KEEP_STAGING_DAYS={config.keep_staging.days}, but a slice may reach {reach} back "
            "(MADHATTER_CATCH_UP_AFTER_S and a window): keep staging longer"
        )
    for topic in topics():
        kept = kept_in_log(contract(topic).retention_ms)
        if kept is None:
            continue
        if reach >= kept:
            raise SettingError(
                f"{topic} is kept for {kept} (MADHATTER_KEEP_LOG_DAYS={config.keep_log.days}, and its contract), but a "
                f"slice may reach {reach} back (MADHATTER_CATCH_UP_AFTER_S and a window): events would expire unread"
            )
        if kept > config.keep_archive:
            raise SettingError(
                f"{topic} is kept for {kept}, its archive for {config.keep_archive} (MADHATTER_KEEP_ARCHIVE_DAYS): the "
                "archive is what is read when the log has expired, keep it longer"
            )


def kept_in_log(contract_ms: int) -> timedelta | None:
    """How long a topic keeps its messages here: as its contract says (ms, -1: no end), but no longer than
    MADHATTER_KEEP_LOG_DAYS. None: as long as its size allows."""
    config = settings()
    if not config.keep_log:
        return None
    return config.keep_log if contract_ms < 0 else min(config.keep_log, timedelta(milliseconds=contract_ms))
