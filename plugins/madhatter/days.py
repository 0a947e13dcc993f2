"""Days: which ones are due by the ledger, rolled up when they are told, or by the clock when nobody told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from madhatter.partitions import correction, day, key_of_day, sales_day

if TYPE_CHECKING:
    from madhatter.warehouse import Warehouse

PAUSE = timedelta(hours=1)  # a day is corrected once in this time
LOST_AFTER = timedelta(minutes=15)  # a day that was announced and is still due


@dataclass(frozen=True)
class DueDay:
    """A day (ISO) that is to be rolled up. is_correction: once more. since: from when on, UTC."""

    day: str
    is_correction: bool
    since: datetime


def due(warehouse: Warehouse, now: datetime, after: timedelta = timedelta(0)) -> list[DueDay]:
    """The days that have been due for so long, oldest first."""
    rows = warehouse.rows_of_file("ops/due_days.sql", pause_s=int(PAUSE.total_seconds()))
    found = [
        DueDay(row["order_date"].isoformat(), row["is_correction"], row["due_ts"].replace(tzinfo=UTC)) for row in rows
    ]
    return [one for one in found if one.since + after <= now]


class AnnounceCorrections(BaseOperator):
    """Emits `correction` for the days that `load` touched, that were rolled up before and are due again, with those
    days' keys. A day that was corrected within the hour is left to platform_health."""

    template_fields = ("load",)

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        super().__init__(outlets=[correction], **kwargs)
        self.load = load

    def execute(self, context: Context) -> list[str]:
        from madhatter import warehouse

        touched = set(warehouse.touched_days(self.load["hours"]))
        with warehouse.session(context) as session:
            found = due(session, datetime.now(UTC))
        return announce(context, [one.day for one in found if one.is_correction and one.day in touched])


class AnnounceDueDays(BaseOperator):
    """Emits `correction` for every day that is due: what was announced before and got lost, corrections that had to
    wait, days whose hours nobody announced."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(outlets=[correction], **kwargs)

    def execute(self, context: Context) -> list[str]:
        from madhatter import warehouse

        with warehouse.session(context) as session:
            found = due(session, datetime.now(UTC))
        return announce(context, [one.day for one in found])


class RollUpLostDays(BaseOperator):
    """Rolls up the days that are due although they were announced: the announcements do not arrive."""

    def __init__(self, *, lost_after: timedelta = LOST_AFTER, **kwargs: Any) -> None:
        super().__init__(outlets=[sales_day], **kwargs)
        self.lost_after = lost_after

    def execute(self, context: Context) -> list[str]:
        from madhatter import publish, warehouse

        with warehouse.session(context) as session:
            lost = [one.day for one in due(session, datetime.now(UTC), self.lost_after)]
            if not lost:
                raise AirflowSkipException("every day that is due was rolled up by retail_daily, or soon will be")
            publish.roll_up(session, lost)
        self.log.warning("rolled up %s: retail_daily did not; is it paused, or its runs failing?", ", ".join(lost))
        context["outlet_events"][sales_day].add_partitions(lost)
        return lost


class RollUpDay(BaseOperator):
    """Recomputes the day marts of the run's day. A run that an asset started is skipped when the day is not due: it was
    announced twice, or corrected within the hour, and platform_health announces it again. A person's run, or one that
    is cleared, computes it in any case."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(outlets=[sales_day], **kwargs)

    def execute(self, context: Context) -> list[str]:
        from madhatter import publish, warehouse

        own = day(context)
        is_asked = context["dag_run"].run_type == "manual" or context["ti"].try_number > 1
        with warehouse.session(context) as session:
            if not is_asked and not _may_be_new(session, own):
                raise AirflowSkipException(f"{own} was rolled up already, or is corrected once an hour")
            publish.roll_up(session, [own])
        return [own]


class RollUpDays(BaseOperator):
    """Recomputes the day marts of all days that `loads` touched and that are over, and notes the backfill as done. A
    day that goes on waits for its hours."""

    template_fields = ("loads",)

    def __init__(self, *, loads: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loads = loads

    def execute(self, context: Context) -> list[str]:
        from madhatter import publish, warehouse

        today = datetime.now(UTC).date().isoformat()
        # Of a mapped group with one instance Airflow hands over the value itself.
        loads = [self.loads] if isinstance(self.loads, dict) else self.loads
        hours = [hour for load in loads for hour in load["hours"]]
        days = [one for one in warehouse.touched_days(hours) if one < today]
        with warehouse.session(context) as session:
            if days:
                publish.roll_up(session, days)
            session.run(
                "update ops.backfill set done_ts = sysdate() where run_id = :run", run=context["dag_run"].run_id
            )
        return days


def announce(context: Context, days: list[str]) -> list[str]:
    """Emits `correction` with the keys of these days; skips the task when there are none, because a task that succeeds
    without naming partitions would announce the run's own key."""
    if not days:
        raise AirflowSkipException("no day is to be rolled up again")
    context["outlet_events"][correction].add_partitions([key_of_day(one) for one in days])
    return days


def _may_be_new(warehouse: Warehouse, own: str) -> bool:
    """Whether a day was never rolled up, or is due again."""
    known = warehouse.rows("select 1 as done from ops.day where order_date = :day", day=own)
    return not known or any(one.day == own for one in due(warehouse, datetime.now(UTC)))
