"""What is special to Airflow 3.3: partitioned runs and partitioned assets. The ledger does not need it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, Context

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
    """The window of a retail_hourly run, from its partition key."""
    key = context["partition_key"]  # type: ignore[typeddict-item]
    if not key:
        raise ValueError("this DAG runs by partition: trigger it with a partition key such as 2026-11-23T10:00:00")
    start = datetime.fromisoformat(key)
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    end = start + settings().window
    return Window(start, end, end + settings().tail)


def hours_completed(start: datetime, end: datetime) -> list[str]:
    """Keys of the hours whose last moment lies in the window [start, end): a cadence below an hour completes one only
    with its last window."""
    first = end.replace(minute=0, second=0, microsecond=0)
    keys = []
    while first > start:
        keys.append((first - HOUR).strftime("%Y-%m-%dT%H:%M:%S"))
        first -= HOUR
    return sorted(keys)
