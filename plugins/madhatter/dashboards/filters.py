"""Filters: from the query string to values that are bound, and to words where they are wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from madhatter.dashboards.model import Dashboard, PeriodFilter

Value = str | dt.datetime | None
_DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90}


class FilterError(ValueError):
    """A filter that the dashboard does not have, or a value it cannot take. The text is for the page's reader."""


@dataclass(frozen=True)
class Coverage:
    """What the data covers, UTC. data_from, data_to: event time; complete_to: closed hours; version: of the data."""

    data_from: dt.datetime | None
    data_to: dt.datetime | None
    complete_to: dt.datetime | None
    version: str
    note: str | None = None


@dataclass(frozen=True)
class Selection:
    """Values by parameter name, and the window they mean (start inclusive, end exclusive, both UTC)."""

    values: Mapping[str, Value]
    start: dt.datetime | None = None
    end: dt.datetime | None = None


class NothingBefore(Exception):
    """The period before this one lies, wholly or in part, before the first data: a comparison would mislead."""


def select(dashboard: Dashboard, query: Mapping[str, str], coverage: Coverage) -> Selection:
    """The bound values for a query string. Raises FilterError; with compare=previous also NothingBefore."""
    known = set(dashboard.filters) | {"compare", "version"}
    period = dashboard.filters.get("period")
    if isinstance(period, PeriodFilter):
        known |= {"from", "to"}
    for name in query:
        if name not in known:
            raise FilterError(
                f"Unknown filter '{name}'. This dashboard knows {', '.join(sorted(known - {'version'}))}."
            )
    values: dict[str, Value] = {
        name: query.get(name) or None for name, item in dashboard.filters.items() if not isinstance(item, PeriodFilter)
    }
    compare = query.get("compare", "none")
    if compare not in ("none", "previous"):
        raise FilterError(f"Unknown comparison '{compare}'. Known: none, previous.")
    if not isinstance(period, PeriodFilter):
        return Selection(values)
    start, end = _window(period, query, coverage)
    if compare == "previous":
        length = _ceil_days(end) - start
        if coverage.data_from is None or start - length < _floor_day(coverage.data_from):
            raise NothingBefore
        start, end = start - length, end - length
    return Selection({**values, "start": start, "end": end}, start, end)


def _window(period: PeriodFilter, query: Mapping[str, str], coverage: Coverage) -> tuple[dt.datetime, dt.datetime]:
    first = _floor_day(coverage.data_from or dt.datetime(2009, 1, 1))
    newest = coverage.data_to or first + dt.timedelta(days=1)
    if "from" in query or "to" in query:
        start = _day(query["from"], "from") if "from" in query else first
        end = _day(query["to"], "to") + dt.timedelta(days=1) if "to" in query else _ceil_days(newest)
        if end <= start:
            raise FilterError(f"The period ends ({query.get('to')}) before it starts ({query.get('from')}).")
        # Up to where the data goes, so that the period before is cut at the same time of day.
        return start, min(end, newest) if start < newest else end
    name = query.get("period", period.default)
    if name not in period.choices:
        raise FilterError(f"Unknown period '{name}'. Known: {', '.join(period.choices)}, or from and to as dates.")
    last_day = _ceil_days(newest)
    if name == "all":
        return first, newest
    if name == "12m":
        return _year_before(last_day), newest
    return last_day - dt.timedelta(days=_DAYS[name]), newest


def _day(text: str, name: str) -> dt.datetime:
    try:
        if len(text) != 10:
            raise ValueError
        day = dt.datetime.combine(dt.date.fromisoformat(text), dt.time())
    except ValueError:
        raise FilterError(f"'{text[:40]}' is not a date for {name}: write YYYY-MM-DD.") from None
    if not 1990 <= day.year <= 2100:
        raise FilterError(f"The date {text} for {name} is out of range: 1990 to 2100.")
    return day


def _floor_day(moment: dt.datetime) -> dt.datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _ceil_days(moment: dt.datetime) -> dt.datetime:
    floor = _floor_day(moment)
    return floor if floor == moment else floor + dt.timedelta(days=1)


def _year_before(day: dt.datetime) -> dt.datetime:
    try:
        return day.replace(year=day.year - 1)
    except ValueError:  # 29 February
        return day.replace(year=day.year - 1, day=28)
