"""Measures the platform: lag, freshness, what is held or unfinished, dead letters, space. Written to ops.metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from madhatter.kafka import CONNECTION as KAFKA
from madhatter.settings import settings

if TYPE_CHECKING:
    from madhatter.warehouse import Warehouse

CORE_EVERY_MIN = 60  # what counts all of core is not measured each time


class MeasurePlatform(BaseOperator):
    """Adds to ops.metric: published_age_s (of a mart, and of all hours or days), lag (offsets of a partition that
    nobody has claimed), dead_letter_share (of a topic's events in the last day), held_slices, unfinished_slices,
    unbalanced_partitions, store_free_share. unbalanced_partitions counts core and is measured once an hour. A broker
    that is away is logged, the rest is measured."""

    def __init__(self, *, kafka_conn_id: str = KAFKA, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> dict[str, float]:
        from madhatter import kafka, warehouse

        with warehouse.session(context) as session:
            session.run_file("ops/metrics.sql")
            if not session.rows(
                "select 1 as known from ops.metric where metric_name = 'unbalanced_partitions' "
                "and measured_ts > dateadd(minute, :pause_min, sysdate())",
                pause_min=-CORE_EVERY_MIN,
            ):
                session.run_file("ops/metrics_of_core.sql")
            try:
                add(session, "lag", lags(session, kafka.client_settings(self.kafka_conn_id)))
            except kafka.BrokerDown as error:
                self.log.warning("the lag is not measured: %s", error)
            add(session, "published_age_s", mart_ages(session))
            add(session, "store_free_share", store_free(settings().store))
            rows = session.rows(
                "select metric_name, measured_of, measured from ops.metric "
                "where measured_ts > dateadd(minute, :pause_min, sysdate()) and measured is not null "
                "qualify row_number() over (partition by metric_name, measured_of order by measured_ts desc) = 1",
                pause_min=-CORE_EVERY_MIN,
            )
        found = {f"{row['metric_name']} {row['measured_of']}": row["measured"] for row in rows}
        for name, value in sorted(found.items()):
            self.log.info("%s: %s", name, f"{value:,.4g}")
        return found


def add(warehouse: Warehouse, metric: str, values: dict[str, float]) -> None:
    """Notes a metric's values by label, as of now."""
    import json

    warehouse.run(
        "insert into ops.metric (metric_name, measured_of, measured, measured_ts) "
        "select :metric, value[0]::varchar, value[1]::float, sysdate() "
        "from table(flatten(input => parse_json(:pairs)))",
        metric=metric,
        pairs=json.dumps(list(values.items())),
    )


def lags(warehouse: Warehouse, client: dict[str, Any]) -> dict[str, float]:
    """Topic[partition] -> offsets that nobody has claimed yet. Raises BrokerDown."""
    from datetime import UTC, datetime

    from include.contracts.contract import topics
    from madhatter import kafka, ledger

    claimed = {place: claim.end for place, claim in ledger.last_claims(warehouse).items()}
    log = kafka.read_log(kafka.admin(client), topics(), datetime.now(UTC))
    return {
        f"{topic}[{partition}]": now.stable_end - claimed.get((topic, partition), now.first)
        for (topic, partition), now in log.items()
    }


def mart_ages(warehouse: Warehouse) -> dict[str, float]:
    """Table -> seconds since the end of what it holds, by the ledger: quiet hours do not make a mart old."""
    from include.sql import sql_files

    (row,) = warehouse.rows(
        "select datediff(second, max(window_end), sysdate()) as hours, "
        "datediff(second, (select dateadd(day, 1, max(order_date)) from ops.day), sysdate()) as days "
        "from ops.slice where kind = 'hour' and state = 'committed'"
    )
    ages = {"hour": row["hours"], "day": row["days"]}
    return {
        name.rsplit("/", 1)[1].removesuffix(".sql"): ages[grain]
        for grain in ages
        if ages[grain] is not None
        for name in sql_files(f"marts/{grain}")
    }


def store_free(store: str) -> dict[str, float]:
    """Where the store is a disk, the share of it that is free; a bucket has no end."""
    import shutil

    from include import storage

    path = storage.folder_on_disk(store)
    if path is None:
        return {}
    usage = shutil.disk_usage(path)
    return {"disk": usage.free / usage.total}
