"""Settings: environment variables that say what they need when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from madhatter.settings import SettingError, check, settings

NAMES = ("CADENCE", "WINDOW_S", "TAIL_S", "CATCH_UP_AFTER_S", "CHUNK_SIZE")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the required setting."""
    for name in NAMES:
        monkeypatch.delenv(f"MADHATTER_{name}", raising=False)
    monkeypatch.delenv("PLATFORM_START", raising=False)
    monkeypatch.setenv("MADHATTER_STORE", "file:///store")
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_defaults_are_an_hour_with_a_tail_of_two_minutes() -> None:
    found = settings()
    assert (found.cadence, found.window, found.tail) == ("0 * * * *", timedelta(hours=1), timedelta(minutes=2))
    assert (found.catch_up_after, found.chunk_size) == (timedelta(hours=6), 100_000)


def test_without_a_start_nothing_before_today_is_scheduled() -> None:
    assert settings().start == datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.mark.parametrize(
    "text", ["2026-11-23T10:00:00+00:00", "2026-11-23T10:00:00", "2026-11-23T10:00:00Z", "2026-11-23T12:00:00+02:00"]
)
def test_start_is_a_time_in_utc_unless_it_has_a_zone(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PLATFORM_START", text)
    assert settings().start == datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", None])
def test_missing_store_is_named(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    if text is None:
        monkeypatch.delenv("MADHATTER_STORE")
    else:
        monkeypatch.setenv("MADHATTER_STORE", text)
    with pytest.raises(SettingError, match=r"MADHATTER_STORE is not set; docs/settings\.md"):
        settings()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("MADHATTER_WINDOW_S", "an hour", "MADHATTER_WINDOW_S='an hour' is not a whole number from 1"),
        ("MADHATTER_WINDOW_S", "0", "MADHATTER_WINDOW_S='0' is not a whole number from 1"),
        ("MADHATTER_TAIL_S", "nan", "MADHATTER_TAIL_S='nan' is not a whole number from 0"),
        ("MADHATTER_CHUNK_SIZE", "lots", "MADHATTER_CHUNK_SIZE='lots' is not a whole number from 1"),
        ("PLATFORM_START", "yesterday", "PLATFORM_START='yesterday' is not a time such as 2026-11-23T10:00:00"),
    ],
)
def test_setting_that_cannot_be_read_is_named_with_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingError, match=words):
        settings()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("MADHATTER_CADENCE", "nonsense", "is no cron expression"),
        ("MADHATTER_CADENCE", "*/7 * * * *", "ticks 0:07:00 apart, but a window is 1:00:00"),
        ("MADHATTER_WINDOW_S", "60", "ticks 1:00:00 apart, but a window is 0:01:00"),
        ("MADHATTER_STORE", "/data", "is no URI"),
        ("PLATFORM_START", "2026-11-23T10:07:00+00:00", "is no tick of"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    monkeypatch.setenv("PLATFORM_START", "2026-11-23T10:00:00+00:00")
    check()
    settings.cache_clear()
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingError, match=words):
        check()
