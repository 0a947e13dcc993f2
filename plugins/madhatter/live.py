"""Live against core: after each hour, whether the minutes that people saw at once were right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from madhatter import alerts

if TYPE_CHECKING:
    from include.alerts import Alert
    from madhatter.warehouse import Row, Warehouse

LIMIT = 0.005
TOLD_ONLY = "late_to_stream"  # what live leaves out by its own rule is no drift
OFF = (
    "select event_hour, what, live_value, core_value, share from ops.live_check "
    "where share > :limit and what <> :told_only"
)
HOUR = timedelta(hours=1)
REACH = timedelta(days=1)  # an hour that nobody has compared by then never is; one that is off is told for so long


class CheckLive(BaseOperator):
    """Compares live with core, for `due` hours; returns what is off by more than LIMIT, as `check_hour` does, and
    raises an alert for each such hour. Skipped where there is no hour to compare.

    The hour is published whatever comes of this: what goes wrong is logged, and the hour compared after the next. An
    alert that Pub/Sub does not take is raised by platform_health (madhatter.watch), which has it end a day later."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from airflow.sdk.exceptions import AirflowSkipException

        from madhatter import warehouse

        try:
            with warehouse.session(context) as session:
                hours = due(session, datetime.now(UTC))
                found = check_hour(session, hours)
        except Exception as error:
            self.log.exception("live is not compared with core now: after the next hour it is tried again")
            raise AirflowSkipException(f"live is not compared with core now: {error}") from error
        if not hours:
            raise AirflowSkipException("there is no hour that live and core both have whole and nobody has compared")
        self.log.info("compared live with core: %s", ", ".join(hours))
        for alert in told(found, context["ti"].log_url):
            self.log.warning("%s", "; ".join(alert.reasons))
            alerts.publish(alert)
        return [{**one, "event_hour": one["event_hour"].isoformat()} for one in found]


def told(found: list[Row], log_link: str = "") -> list[Alert]:
    """An alert for each hour of what `check_hour` or `off` has found."""
    hours = sorted({one["event_hour"] for one in found})
    return [
        alerts.live_is_off(hour, [words(one) for one in found if one["event_hour"] == hour], log_link) for hour in hours
    ]


def words(finding: Row) -> str:
    """What a finding of `check_hour` says to people."""
    hour, what, share = finding["event_hour"], finding["what"], f"{100 * finding['share']:.2f} %"
    live, core = f"{finding['live_value']:,}", f"{finding['core_value']:,}"
    if what == "missing_minutes":
        return f"{hour:%Y-%m-%d %H}h: live has {live} of core's {core} minutes as final ones, {share} are missing"
    return f"{hour:%Y-%m-%d %H}h: {what} is {live} in live and {core} in core; minute by minute {share} are off"


def due(warehouse: Warehouse, now: datetime) -> list[str]:
    """The hours (ISO) of the last day that core and live both have whole and nobody has compared."""
    (batches,) = warehouse.rows("select min(first_minute) as first, max(final_until) as past_last from live.batch")
    if batches["first"] is None or batches["past_last"] is None:
        return []
    spans = warehouse.rows("select from_ts, to_ts from ops.live_span")
    rows = warehouse.rows("select distinct event_hour from ops.live_check")
    compared = {row["event_hour"] for row in rows}
    found = []
    hour = batches["past_last"].replace(minute=0, second=0, microsecond=0) - HOUR
    while hour >= max(batches["first"], now.replace(tzinfo=None) - REACH):
        is_core = not any(span["from_ts"] < hour + HOUR and hour < span["to_ts"] for span in spans)
        if is_core and hour not in compared:
            found.append(hour.isoformat())
        hour -= HOUR
    return sorted(found)


def check_hour(warehouse: Warehouse, hours: list[str]) -> list[Row]:
    """Compares live with core over these hours (ISO) and stores it in ops.live_check, once or again. Returns the rows
    above LIMIT: event_hour, what, live_value, core_value, share. `missing_minutes` are those that live has not, or not
    as final ones; all other differences are of minutes that it has, and wrong."""
    from madhatter.warehouse import json_list

    if not hours:
        return []
    days = [datetime.fromisoformat(hour).date() for hour in hours]
    with warehouse.transaction():
        warehouse.run_file(
            "ops/live_check.sql",
            hours=json_list(hours),
            first_day=min(days).isoformat(),
            past_last_day=(max(days) + timedelta(days=1)).isoformat(),
        )
    return warehouse.rows(
        f"{OFF} and event_hour in (select value::timestamp_ntz from table(flatten(input => parse_json(:hours)))) "
        "order by event_hour, what",
        hours=json_list(hours),
        limit=LIMIT,
        told_only=TOLD_ONLY,
    )


def off(warehouse: Warehouse, now: datetime) -> list[Row]:
    """What was compared within REACH before now and is above LIMIT, as `check_hour` returns it."""
    return warehouse.rows(
        f"{OFF} and checked_ts > :since order by event_hour, what",
        since=(now - REACH).replace(tzinfo=None),
        limit=LIMIT,
        told_only=TOLD_ONLY,
    )
