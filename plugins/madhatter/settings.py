"""What differs between environments, from environment variables: cheap to read when a DAG file is parsed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache


class SettingError(ValueError):
    """A setting that cannot be used: its name, what was found, what is expected."""


@dataclass(frozen=True)
class Settings:
    """cadence: cron of the windows; window, tail: their length and the wait for stragglers after it.
    start: the first window. store: base URI of plans, slices and archive. chunk_size: offsets."""

    cadence: str
    window: timedelta
    tail: timedelta
    start: datetime
    catch_up_after: timedelta
    store: str
    chunk_size: int


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
    )


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SettingError(f"{name} is not set; docs/settings.md says what it is")
    return value


def _seconds(name: str, default: int, at_least: int = 0) -> timedelta:
    return timedelta(seconds=_count(name, default, at_least))


def _count(name: str, default: int, at_least: int = 1) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or not at_least <= int(text) <= 10**9:
        raise SettingError(f"{name}={text!r} is not a whole number from {at_least} to 1000000000")
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
