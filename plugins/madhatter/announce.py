"""Tells what the ledger now covers: hours to roll up, days to correct. Hints only; the ledger stays the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator, Context

from madhatter.partitions import correction, day, hours_completed, sales_day, sales_hour, window
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


class AnnounceCorrections(BaseOperator):
    """Emits `correction` for the days that the load touched and that were rolled up before, with those days' keys."""

    template_fields = ("load",)

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        super().__init__(outlets=[correction], **kwargs)
        self.load = load

    def execute(self, context: Context) -> list[str]:
        from airflow.sdk.exceptions import AirflowSkipException

        from madhatter import warehouse

        days = warehouse.touched_days(self.load["hours"])
        with warehouse.session(context) as session:
            done = session.rows(
                "select order_date from ops.day where order_date in "
                "(select value::date from table(flatten(input => parse_json(:days))))",
                days=warehouse.json_list(days),
            )
        late = sorted(row["order_date"].isoformat() for row in done)
        if not late:
            raise AirflowSkipException("no day that was rolled up is touched")
        context["outlet_events"][correction].add_partitions([f"{one}T00:00:00" for one in late])
        return late


class RollUpDays(BaseOperator):
    """Recomputes the day marts: of the run's own day, or of all days that `loads` touched and that are over. A day that
    goes on waits for its hours."""

    template_fields = ("loads",)

    def __init__(self, *, loads: Any = None, **kwargs: Any) -> None:
        super().__init__(outlets=[sales_day] if loads is None else [], **kwargs)
        self.loads = loads

    def execute(self, context: Context) -> list[str]:
        from madhatter import publish, warehouse

        if self.loads is None:
            days = [day(context)]
        else:
            today = datetime.now(UTC).date().isoformat()
            hours = [hour for load in self.loads for hour in load["hours"]]
            days = [one for one in warehouse.touched_days(hours) if one < today]
        if days:
            with warehouse.session(context) as session:
                publish.roll_up(session, days)
        return days
