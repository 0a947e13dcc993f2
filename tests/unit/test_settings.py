"""Settings: environment variables that say what they need when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from madhatter.settings import SettingError, check, check_retention, kept_in_log, settings

NAMES = (
    *("CADENCE", "WINDOW_S", "TAIL_S", "CATCH_UP_AFTER_S", "CHUNK_SIZE", "KEEP_LOG_DAYS", "KEEP_LOG_MB"),
    *(
        f"KEEP_{what}_DAYS"
        for what in ("STAGING", "AUDIT_PAGES", "ARCHIVE", "DEAD_LETTERS", "METRICS", "ALERTS", "AIRFLOW")
    ),
)


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


def test_everything_is_kept_for_a_bounded_time_by_default() -> None:
    found = settings()
    kept = (found.keep_log, found.keep_staging, found.keep_audit_pages, found.keep_archive, found.keep_dead_letters)
    assert [one.days for one in (*kept, found.keep_metrics, found.keep_live)] == [30, 7, 90, 365, 90, 90, 3]
    assert found.keep_alerts.days == 90
    assert found.keep_airflow.days == 30
    assert found.log_bytes == 0
    check_retention()


def test_topic_is_kept_as_its_contract_says_but_no_longer_than_the_environment_keeps_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    week_ms = 7 * 86_400_000
    assert (kept_in_log(-1), kept_in_log(week_ms)) == (timedelta(days=30), timedelta(days=7))
    monkeypatch.setenv("MADHATTER_KEEP_LOG_DAYS", "0")
    settings.cache_clear()
    assert (kept_in_log(-1), kept_in_log(week_ms)) == (None, None)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"KEEP_LOG_DAYS": "0"}, r"MADHATTER_KEEP_LOG_MB=0: the log would grow for ever"),
        (
            {"KEEP_LOG_DAYS": "1", "CATCH_UP_AFTER_S": "86400", "KEEP_STAGING_DAYS": "2"},
            r"\S+ is kept for 1 day, 0:00:00 .* but a slice may reach 1 day, 1:02:00 back .* expire unread",
        ),
        (
            {"CATCH_UP_AFTER_S": "604800"},
            r"MADHATTER_KEEP_STAGING_DAYS=7, but a slice may reach 7 days, 1:02:00 back",
        ),
        (
            {"KEEP_ARCHIVE_DAYS": "20"},
            r"is kept for 30 days, 0:00:00, its archive for 20 days, 0:00:00 \(MADHATTER_KEEP_ARCHIVE_DAYS\)",
        ),
    ],
    ids=["unbounded", "unread", "staging", "archive"],
)
def test_nothing_may_be_removed_that_something_else_still_needs(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(f"MADHATTER_{name}", text)
    with pytest.raises(SettingError, match=words):
        check_retention()
    settings.cache_clear()
    monkeypatch.setenv("PLATFORM_START", "2026-11-23T10:00:00+00:00")
    with pytest.raises(SettingError, match=words):
        check()


def test_log_that_is_bounded_by_size_only_needs_no_archive_of_an_age(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"KEEP_LOG_DAYS": "0", "KEEP_LOG_MB": "256", "KEEP_ARCHIVE_DAYS": "1"}.items():
        monkeypatch.setenv(f"MADHATTER_{name}", text)
    check_retention()


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
        pytest.param("MADHATTER_CHUNK_SIZE", "9" * 5000, "is not a whole number from 1 to 1000000000", id="endless"),
        ("MADHATTER_KEEP_STAGING_DAYS", "0", "MADHATTER_KEEP_STAGING_DAYS='0' is not a whole number from 1 to 36500"),
        ("MADHATTER_KEEP_ARCHIVE_DAYS", "1 year", "='1 year' is not a whole number from 1 to 36500"),
        ("MADHATTER_KEEP_DEAD_LETTERS_DAYS", "-1", "='-1' is not a whole number from 1 to 36500"),
        ("MADHATTER_KEEP_ALERTS_DAYS", "39", "='39' is not a whole number from 40 to 36500"),
        ("MADHATTER_KEEP_AIRFLOW_DAYS", "\u0663", "is not a whole number from 1 to 36500"),
        ("MADHATTER_KEEP_LOG_MB", "1e3", "='1e3' is not a whole number from 0 to 1000000"),
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
