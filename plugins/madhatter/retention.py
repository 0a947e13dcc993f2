"""Removes what has served its time: staged rows, files of loads, audit pages, the archive, payloads of dead letters,
metrics, live minutes, alerts and offers.

Of slices only what belongs to a committed one goes, and only when nothing has touched the slice for as long as the
setting says: one that is replayed writes its files anew, and its time begins anew. The ledger (ops.slice,
ops.slice_partition, ops.slice_hour) stays: it is the truth.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context

from madhatter.kafka import CONNECTION as KAFKA
from madhatter.settings import SettingError, Settings, check_retention, settings

if TYPE_CHECKING:
    from include.storage import Stored
    from madhatter.slices import Place
    from madhatter.warehouse import Warehouse


@dataclass(frozen=True)
class Removed:
    """What a purge removed. what: the kind, as in ops.purge; kept: its age limit; size_bytes: None for rows."""

    what: str
    kept: timedelta
    count: int
    size_bytes: int | None = None


class AlignTopics(BaseOperator):
    """Gives the contracts' topics their bounds, where they have others; returns {topic: {setting: value}} of those."""

    def __init__(self, *, kafka_conn_id: str = KAFKA, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> dict[str, dict[str, str]]:  # noqa: ARG002
        from include.contracts.contract import topics
        from madhatter import bounds, kafka

        _check_settings()
        changed = bounds.align(kafka.admin(kafka.client_settings(self.kafka_conn_id)), topics())
        for topic, values in changed.items():
            self.log.info("%s: %s", topic, ", ".join(f"{name}={value}" for name, value in values.items()))
        return changed


class Purge(BaseOperator):
    """Runs one of PURGES, writes what it removed to ops.purge and returns it, {kind: how many}. Run again it finds
    nothing more to remove."""

    def __init__(self, *, purge: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.purge = purge

    def execute(self, context: Context) -> dict[str, int]:
        from include import storage
        from madhatter import warehouse

        _check_settings()
        config = settings()
        # A store that is not mounted is empty, too.
        storage.check_reachable(config.store)
        with warehouse.session(context) as session:
            removed = PURGES[self.purge](session, config, datetime.now(UTC))
            record(session, removed, context["run_id"])
        for one in removed:
            size = "" if one.size_bytes is None else f", {one.size_bytes} bytes"
            self.log.info("removed %s %s older than %s days%s", one.count, one.what, one.kept.days, size)
        return {one.what: one.count for one in removed}


def _check_settings() -> None:
    from airflow.sdk.exceptions import AirflowFailException

    try:
        check_retention()
    except SettingError as error:
        raise AirflowFailException(f"nothing was removed or changed: {error} (docs/settings.md)") from error


def record(warehouse: Warehouse, removed: Iterable[Removed], run_id: str) -> None:
    """Writes what was removed to ops.purge."""
    for one in removed:
        warehouse.run(
            "insert into ops.purge (what, kept_days, removed, size_bytes, run_id, purged_ts) "
            "values (:what, :days, :removed, :size_bytes, :run_id, sysdate())",
            what=one.what,
            days=one.kept.days,
            removed=one.count,
            size_bytes=one.size_bytes,
            run_id=run_id,
        )


def purge_staging(warehouse: Warehouse, config: Settings, now: datetime) -> list[Removed]:
    """Staged rows of loads whose slices are committed and that nothing has written to since."""
    from include import storage
    from include.beam.plan import load_folder
    from include.contracts.contract import models

    before = now - config.keep_staging
    tables = [*(model.table.name for model in models()), "dead_letter"]
    ids = " union ".join(f"select load_id, slice_id from staging.{table}" for table in tables)
    found = warehouse.rows(
        f"select staged.load_id from ({ids}) as staged inner join ops.slice on staged.slice_id = slice.slice_id "
        "group by staged.load_id having min(iff(slice.state = 'committed' and slice.published_ts < :before, 1, 0)) = 1",
        before=_naive(before),
    )
    old = [
        row["load_id"]
        for row in found
        if all(file.modified_ts < before for file in storage.files(load_folder(config.store, row["load_id"])))
    ]
    count = 0
    for table in tables if old else ():
        # One table at a time, in the order of `stage`: whoever stages meanwhile waits for one statement at most.
        count += warehouse.run(
            f"delete from staging.{table} "
            "where load_id in (select value::varchar from table(flatten(input => parse_json(:ids))))",
            ids=json.dumps(sorted(old)),
        )
    return [Removed("staged rows", config.keep_staging, count)]


def purge_loads(warehouse: Warehouse, config: Settings, now: datetime) -> list[Removed]:
    """What loads of committed slices have in the store: what was staged, the manifest, the audit's page, the plan."""
    from include import storage

    keep = {"audit.html": ("audit pages", config.keep_audit_pages), "plan.json": ("plans", config.keep_archive)}
    other = ("files of loads", config.keep_staging)
    root = storage.join(config.store, "loads")
    folders: dict[str, list[Stored]] = defaultdict(list)
    for file in storage.files(root):
        folders[file.path.partition("/")[0]].append(file)
    committed = _committed(warehouse)
    gone: dict[tuple[str, timedelta], list[Stored]] = {kind: [] for kind in (other, *keep.values())}
    for load_id, files in folders.items():
        is_replay = load_id.startswith("replay-")
        if load_id not in committed and not is_replay:
            continue
        touched = [file.modified_ts for file in files]
        age = now - max(touched if is_replay else [committed[load_id], *touched])
        for file in files:
            kind = keep.get(file.path.partition("/")[2], other)
            if age > kind[1]:
                gone[kind].append(file)
    return [_remove(root, what, kept, files) for (what, kept), files in gone.items()]


def purge_archive(warehouse: Warehouse, config: Settings, now: datetime) -> list[Removed]:
    """Raw bytes of slices that were committed so long ago, unless a slice that is not committed owns their offsets. The
    ledger says how old they are: a move to another storage class makes a file young again."""
    from include import storage

    before = now - config.keep_archive
    old: dict[Place, int] = {
        (row["topic"], row["partition"]): row["end_offset"]
        for row in warehouse.rows(
            "select topic, partition, max(end_offset) as end_offset from ops.slice_partition "
            "inner join ops.slice on slice_partition.slice_id = slice.slice_id "
            "where slice.state = 'committed' and slice.committed_ts < :before group by topic, partition",
            before=_naive(before),
        )
    }
    waiting: dict[Place, list[tuple[int, int]]] = defaultdict(list)
    for row in warehouse.rows(
        "select topic, partition, start_offset, end_offset from ops.slice_partition "
        "inner join ops.slice on slice_partition.slice_id = slice.slice_id "
        "where slice.state <> 'committed' and end_offset > start_offset"
    ):
        waiting[row["topic"], row["partition"]].append((row["start_offset"], row["end_offset"]))

    def is_old(file: Stored) -> bool:
        chunk = _chunk(file.path)
        if chunk is None:
            return file.modified_ts < before
        place, start, end = chunk
        return end <= old.get(place, -1) and not any(
            start < past_last and first < end for first, past_last in waiting[place]
        )

    root = storage.join(config.store, "archive")
    return [_remove(root, "archive files", config.keep_archive, [f for f in storage.files(root) if is_old(f)])]


def purge_dead_letters(warehouse: Warehouse, config: Settings, now: datetime) -> list[Removed]:
    """Payloads of dead letters, and what their reasons quote of them: they may hold personal data. The rows stay, so
    that each rejected offset stays accounted for."""
    where = (
        "payload is not null and slice_id in "
        "(select slice_id from ops.slice where state = 'committed' and committed_ts < :before)"
    )
    before = _naive(now - config.keep_dead_letters)
    with warehouse.transaction():
        (found,) = warehouse.rows(
            f"select coalesce(sum(length(payload)), 0) as size_bytes from ops.dead_letter where {where}",
            before=before,
        )
        count = warehouse.run(
            "update ops.dead_letter set payload = null, "
            f"reason = regexp_replace(split_part(reason, ': ', 1), '''.*''', '...') where {where}",
            before=before,
        )
    return [Removed("dead letter payloads", config.keep_dead_letters, count, int(found["size_bytes"]))]


def purge_metrics(warehouse: Warehouse, config: Settings, now: datetime) -> list[Removed]:
    """What the platform measured of itself."""
    before = _naive(now - config.keep_metrics)
    return [
        Removed(
            "metrics",
            config.keep_metrics,
            warehouse.run("delete from ops.metric where measured_ts < :before", before=before),
        )
    ]


def purge_live(warehouse: Warehouse, config: Settings, now: datetime) -> list[Removed]:
    """Live minutes that core has, and what the streaming job wrote; not those that are shown from live, of a held slice
    for example, nor the word where a restart begins, nor the newest snapshot, with which the job runs."""
    from include import storage

    before = now - config.keep_live
    count = 0
    for table in ("sales_minute", "activity_minute"):
        # One table at a time, and with no name that the loader's statements lock before: it waits for one at most.
        count += warehouse.run(
            f"delete from live.{table} where minute_ts < :before and minute_ts not in ("
            f"select minute.minute_ts from live.{table} as minute inner join ops.live_span as span "
            "on minute.minute_ts >= span.from_ts and minute.minute_ts < span.to_ts where minute.minute_ts < :before)",
            before=_naive(before),
        )
    count += warehouse.run("delete from live.batch where written_ts < :before", before=_naive(before))
    root = storage.join(config.store, "live")
    found = list(storage.files(root))
    newest = max((path for path in map(_snapshot, found) if path), default=None)
    old = [
        file
        for file in found
        if file.modified_ts < before and file.path not in MARKS and (newest is None or _snapshot(file) != newest)
    ]
    return [Removed("live rows", config.keep_live, count), _remove(root, "live files", config.keep_live, old)]


def _snapshot(file: Stored) -> str | None:
    """The stamp of the snapshot that a file of the streaming job belongs to, None when it belongs to none."""
    folder, _, path = file.path.partition("/")
    return path.partition("/")[0] if folder == "snapshots" else None


MARKS = ("position.json", "signals.json")  # where the streaming job begins again
# What is done about alerts: the states in which it waits for nobody, and since when.
DONE = {
    "held_order": ("'released', 'cancelled'", "coalesce(decided_ts, held_ts)"),
    "reorder_draft": ("'ordered', 'dropped'", "coalesce(decided_ts, drafted_ts)"),
    "incident": ("'closed'", "coalesce(closed_ts, opened_ts)"),
}


def purge_alerts(warehouse: Warehouse, config: Settings, now: datetime) -> list[Removed]:
    """Alerts that are over, once all that was done about them is decided; what was decided; who was told; offers.

    What a signal saw is over when somebody has seen it, or its action is done; what lasts, when it is resolved.
    """
    before = _naive(now - config.keep_alerts)
    kept = " union all ".join(f"select alert_id from ops.{table}" for table in DONE)
    with warehouse.transaction():
        # First of all, as alert_book and alert_response do: nobody opens an alert again meanwhile.
        warehouse.run("update ops.alert_lock set taken = taken + 1")
        count = sum(
            warehouse.run(f"delete from ops.{table} where state in ({ends}) and {moment} < :before", before=before)
            for table, (ends, moment) in DONE.items()
        )
        count += warehouse.run(
            "delete from ops.alert where coalesce(resolved_ts, acknowledged_ts, raised_ts) < :before "
            "and coalesce(last_raised_ts, raised_ts) < :before and (state = 'resolved' or state = 'acknowledged' "
            "and signal_id is not null and (action = 'none' or handled_ts is not null)) "
            f"and alert_id not in ({kept})",
            before=before,
        )
        # Those of an alert that is still there say who need not be told again.
        count += warehouse.run(
            "delete from ops.alert_notice where notified_ts < :before and not exists (select 1 from ops.alert "
            "where alert.alert_id = alert_notice.alert_id and alert.raised_ts = alert_notice.raised_ts)",
            before=before,
        )
    offers = warehouse.run("delete from ops.offer where offered_ts < :before", before=before)
    return [Removed("alerts", config.keep_alerts, count), Removed("offers", config.keep_alerts, offers)]


PURGES: dict[str, Callable[[Warehouse, Settings, datetime], list[Removed]]] = {
    "staging": purge_staging,
    "loads": purge_loads,
    "archive": purge_archive,
    "dead_letters": purge_dead_letters,
    "metrics": purge_metrics,
    "live": purge_live,
    "alerts": purge_alerts,
}


def _remove(root: str, what: str, kept: timedelta, files: list[Stored]) -> Removed:
    from include import storage

    storage.remove_below(root, (file.path for file in files))
    return Removed(what, kept, len(files), sum(file.size_bytes for file in files))


def _chunk(path: str) -> tuple[Place, int, int] | None:
    """Partition, first and past-last offset of <topic>/<partition>/<chunk>.parquet; None for what is no chunk's file,
    such as what a killed writer left."""
    try:
        topic, partition, name = path.split("/")
        start, end = map(int, name.removesuffix(".parquet").rsplit("-", 2)[1:])
        return (topic, int(partition)), start, end
    except ValueError:
        return None


def _committed(warehouse: Warehouse) -> dict[str, datetime]:
    rows = warehouse.rows("select slice_id, published_ts from ops.slice where state = 'committed'")
    return {row["slice_id"]: row["published_ts"].replace(tzinfo=UTC) for row in rows}


def _naive(moment: datetime) -> datetime:
    """As the warehouse keeps time: UTC, without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)
