"""What is special to Airflow 3.3: partitioned runs and partitioned assets. The ledger does not need it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from airflow.sdk import Asset, Context
from airflow.sdk.exceptions import AirflowFailException

from madhatter.settings import settings

sales_hour = Asset(name="sales_hour", uri="x-madhatter://sales_hour")
sales_day = Asset(name="sales_day", uri="x-madhatter://sales_day")
correction = Asset(name="correction", uri="x-madhatter://correction")

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Window:
    """Arrival times [start, end), UTC; `closes`: when it may be planned."""

    start: datetime
    end: datetime
    closes: datetime


def window(context: Context) -> Window:
    """The window of a retail_hourly run, from its partition key. A key that names none fails the task for good."""
    key = context["partition_key"]  # type: ignore[typeddict-item]
    length = settings().window
    try:
        start = datetime.fromisoformat(key or "")
    except ValueError:
        raise AirflowFailException(
            f"partition key {key!r} is no window: trigger with one such as {settings().start:%Y-%m-%dT%H:%M:%S}"
        ) from None
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    end = start + length
    if (start - settings().start) % length or start > datetime.now(UTC):
        raise AirflowFailException(
            f"partition key {key} is no window that has begun: windows start every {length} from {settings().start}"
        )
    return Window(start, end, end + settings().tail)


def day(context: Context) -> str:
    """The day (ISO) of a retail_daily run, from its partition key. A key that names none that is over fails the task
    for good."""
    key = context["partition_key"]  # type: ignore[typeddict-item]
    try:
        found = date.fromisoformat((key or "")[:10])
        datetime.fromisoformat(key or "")
    except ValueError:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        raise AirflowFailException(f"partition key {key!r} is no day: trigger with one such as {yesterday}") from None
    if found >= datetime.now(UTC).date():
        raise AirflowFailException(
            f"partition key {key} is no day that is over (UTC): it is rolled up after its last hour"
        )
    return found.isoformat()


def key_of_day(day: str) -> str:
    """The partition key of a day (ISO)."""
    return f"{day}T00:00:00"


def hours_completed(start: datetime, end: datetime) -> list[str]:
    """Keys of the hours whose last moment lies in the window [start, end): a cadence below an hour completes one only
    with its last window."""
    first = end.replace(minute=0, second=0, microsecond=0)
    keys = []
    while first > start:
        keys.append((first - HOUR).strftime("%Y-%m-%dT%H:%M:%S"))
        first -= HOUR
    return sorted(keys)
