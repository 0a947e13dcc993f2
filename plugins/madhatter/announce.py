"""Tells which hours the ledger now covers. A hint only; the ledger stays the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator, Context

from madhatter.partitions import hours_completed, sales_hour, window
from madhatter.settings import settings


class AnnounceHours(BaseOperator):
    """Emits `sales_hour` for the hours that the window of the run, or of `load`, completes. Skipped when it completes
    none, because a task that succeeds without naming partitions would announce the run's own key."""

    template_fields = ("load",)

    def __init__(self, *, load: Any = None, **kwargs: Any) -> None:
        super().__init__(outlets=[sales_hour], **kwargs)
        self.load = load

    def execute(self, context: Context) -> list[str]:
        from airflow.sdk.exceptions import AirflowSkipException

        if self.load is None:
            own = window(context)
            first, end = own.start, own.end
        else:
            ends = (self.load[name] for name in ("window_start", "window_end"))
            first, end = (datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in ends)
        # The hours of the first day before the platform's start hold history, or nothing: the first window has them.
        is_first = first == settings().start
        hours = hours_completed(first.replace(hour=0, minute=0, second=0, microsecond=0) if is_first else first, end)
        if not hours:
            raise AirflowSkipException(f"the hour of {first:%H:%M} goes on")
        context["outlet_events"][sales_hour].add_partitions(hours)
        return hours
