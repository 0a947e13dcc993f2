"""Retention on a real chain: what goes, what stays, and that the ledger still adds up."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from local.instance import ROOT
from madhatter import ledger, retention
from madhatter.retention import AlignTopics, Purge, Removed
from madhatter.settings import Settings, settings
from tests.pipeline.chain import MODELS, Chain, empty_chain, order
from tests.stand_ins import Snowflake

OLD, YOUNG, HELD = "hour-20110104t100000", "hour-20110104t110000", "hour-20110104t120000"
NOW = datetime.now(UTC)
SECRET = b'{"event_id": "order:secret-of-a-person"}'


@pytest.fixture
def config(chain: Chain) -> Settings:
    """Ten days of everything, over the chain's store."""
    return ten_days(chain)


def ten_days(chain: Chain) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MADHATTER_STORE", chain.store)
        settings.cache_clear()
        found = settings()
    settings.cache_clear()
    ten = timedelta(days=10)
    return replace(
        found,
        keep_staging=ten,
        keep_audit_pages=ten,
        keep_archive=ten,
        keep_dead_letters=ten,
        keep_metrics=ten,
        keep_live=ten,
        keep_alerts=ten,
    )


@pytest.fixture
def one(chain: Chain) -> Chain:
    """A slice that was committed 11 days ago."""
    add_slice(chain, OLD, 11)
    return chain


def add_slice(chain: Chain, slice_id: str, days: int) -> None:
    """Two orders, two dead letters and an audit page, so many days old; held or committed."""
    for partition in (0, 1):
        chain.send(partition, order(f"{slice_id}-{partition}"), SECRET)
    chain.staged(slice_id)
    (chain.folder / "loads" / slice_id / "audit.html").write_text("all rules hold")
    if slice_id == HELD:
        ledger.set_state(chain.warehouse, slice_id, "held")
    else:
        chain.publish(slice_id)
    grow_old(chain, slice_id, days)


@dataclass(frozen=True)
class Seen:
    """A chain at a moment. staged, files: by slice; payloads: of dead letters, by slice."""

    content: dict[str, list[str]]
    staged: dict[str, int]
    files: dict[str, list[str]]
    archive: list[str]
    payloads: dict[str, set[Any]]
    is_balanced: bool

    @classmethod
    def of(cls, chain: Chain) -> Seen:
        return cls(
            chain.content(),
            {one: staged_rows(chain, one) for one in (OLD, YOUNG, HELD)},
            {one: stored(chain, "loads", one) for one in (OLD, YOUNG, HELD)},
            stored(chain, "archive"),
            payloads(chain),
            chain.is_balanced(),
        )


@dataclass(frozen=True)
class Run:
    """Before, after one run and after another, and what each of the two removed."""

    before: Seen
    removed: dict[str, Removed]
    after: Seen
    removed_again: dict[str, Removed]
    after_again: Seen


@pytest.fixture(scope="module")
def run(snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two runs over a slice that was committed 11 days ago, one of 9 days ago, and one that has been held for 11."""
    chain = empty_chain(snowflake.open(), tmp_path_factory.mktemp("store"))
    for slice_id, days in ((OLD, 11), (YOUNG, 9), (HELD, 11)):
        add_slice(chain, slice_id, days)
    config = ten_days(chain)
    before, removed = Seen.of(chain), purge(chain, config)
    after, again = Seen.of(chain), purge(chain, config)
    found = Run(before, removed, after, again, Seen.of(chain))
    chain.warehouse.close()
    return found


def grow_old(chain: Chain, slice_id: str, days: int) -> None:
    """Moves all times of a slice into the past. The archive's files stay young, as a move to another storage class
    leaves them."""
    then = NOW - timedelta(days=days)
    chain.warehouse.run(
        "update ops.slice set committed_ts = :then, published_ts = :then "
        "where slice_id = :s and committed_ts is not null",
        then=then.replace(tzinfo=None),
        s=slice_id,
    )
    for path in (chain.folder / "loads" / slice_id).rglob("*"):
        if path.is_file():
            os.utime(path, (then.timestamp(), then.timestamp()))


def purge(chain: Chain, config: Settings) -> dict[str, Removed]:
    """What one run of the DAG removes, by kind."""
    removed: list[Removed] = []
    for step in retention.PURGES.values():
        removed += step(chain.warehouse, config, NOW)
    retention.record(chain.warehouse, removed, "run")
    return {one.what: one for one in removed}


def staged_rows(chain: Chain, slice_id: str) -> int:
    tables = (*MODELS, "dead_letter")
    return sum(
        chain.warehouse.rows(f"select count(*) as n from staging.{table} where load_id = :s", s=slice_id)[0]["n"]
        for table in tables
    )


def stored(chain: Chain, *parts: str) -> list[str]:
    """The files below a folder of the store."""
    folder = chain.folder.joinpath(*parts)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def payloads(chain: Chain) -> dict[str, set[Any]]:
    """Slice -> payloads of its dead letters."""
    found: dict[str, set[Any]] = {}
    for row in chain.warehouse.rows("select slice_id, payload from ops.dead_letter"):
        found.setdefault(row["slice_id"], set()).add(row["payload"])
    return found


def test_old_committed_slice_leaves_staging_and_store(run: Run) -> None:
    assert run.before.staged[OLD] == run.removed["staged rows"].count > 0
    assert (run.after.staged[OLD], run.after.files[OLD]) == (0, [])
    assert run.removed["files of loads"].count == len(run.before.files[OLD]) - 2
    assert (run.removed["audit pages"].count, run.removed["plans"].count) == (1, 1)
    assert run.removed["audit pages"].size_bytes == len("all rules hold")


@pytest.mark.parametrize("kept", [YOUNG, HELD])
def test_young_slice_and_held_slice_keep_what_they_have(run: Run, kept: str) -> None:
    assert run.after.staged[kept] == run.before.staged[kept] > 0
    assert run.after.files[kept] == run.before.files[kept] != []


def test_ledger_and_what_is_visible_stay_and_the_reconciliation_is_balanced(run: Run) -> None:
    assert {name for name, rows in run.after.content.items() if rows != run.before.content[name]} == {"ops.dead_letter"}
    assert len(run.after.content["ops.dead_letter"]) == len(run.before.content["ops.dead_letter"]) == 4
    assert run.before.is_balanced
    assert run.after.is_balanced


def test_archive_goes_by_age_but_not_under_a_slice_that_waits(run: Run) -> None:
    gone = set(run.before.archive) - set(run.after.archive)
    assert gone == {f"sales.orders/{partition}/sales.orders-{partition}-0-2.parquet" for partition in (0, 1)}
    assert run.removed["archive files"].count == len(gone)
    assert (run.removed["archive files"].size_bytes or 0) > 0


def test_old_dead_letters_lose_what_they_quote_and_stay_counted(run: Run) -> None:
    assert run.before.payloads == {OLD: {SECRET.decode()}, YOUNG: {SECRET.decode()}}
    assert run.after.payloads == {OLD: {None}, YOUNG: {SECRET.decode()}}
    assert run.removed["dead letter payloads"] == Removed(
        "dead letter payloads", timedelta(days=10), 2, 2 * len(SECRET)
    )


def test_second_run_removes_nothing(run: Run) -> None:
    assert {what: one.count for what, one in run.removed_again.items()} == dict.fromkeys(run.removed, 0)
    assert run.after_again == run.after


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("lines[0].quantity: 5000000000 is over 2147483647", "lines[0].quantity"),
        ("Invalid enum value 'me@example.com' - at `channel`", "Invalid enum value ... - at `channel`"),
        ("not JSON: JSON is malformed: invalid character", "not JSON"),
        ("empty message", "empty message"),
    ],
)
def test_reason_of_an_old_dead_letter_says_where_but_not_what(
    chain: Chain, config: Settings, reason: str, kept: str
) -> None:
    chain.warehouse.run(
        "insert into ops.slice (slice_id, state, committed_ts) values ('one', 'committed', '2011-01-04 10:00:00')"
    )
    chain.warehouse.run(
        "insert into ops.dead_letter (slice_id, topic, partition, offset, reason, payload) "
        "values ('one', 'sales.orders', 0, 0, :reason, 'me@example.com')",
        reason=reason,
    )
    retention.purge_dead_letters(chain.warehouse, config, NOW)
    assert chain.warehouse.rows("select reason, payload from ops.dead_letter") == [{"reason": kept, "payload": None}]


def test_dag_has_a_task_for_each_purge() -> None:
    text = (ROOT / "dags" / "retention.py").read_text()
    assert re.findall('purge="(.*)"', text) == list(retention.PURGES)


def test_what_was_removed_is_told_with_its_size(chain: Chain, config: Settings) -> None:
    chain.warehouse.run("delete from ops.purge")
    purge(chain, config)
    kinds = [
        "alerts",
        "archive files",
        "audit pages",
        "dead letter payloads",
        "files of loads",
        "live files",
        "live rows",
        "metrics",
        "offers",
        "plans",
        "staged rows",
    ]
    told = chain.warehouse.rows("select * from ops.purge order by what")
    assert [row["what"] for row in told] == kinds
    assert {(row["kept_days"], row["removed"], row["run_id"]) for row in told} == {(10, 0, "run")}
    assert [row["size_bytes"] for row in told] == [None, 0, 0, 0, 0, 0, None, None, None, 0, None]


def test_metrics_go_by_their_age(chain: Chain, config: Settings) -> None:
    chain.warehouse.run("delete from ops.metric")
    for days in (9, 11):
        chain.warehouse.run(
            "insert into ops.metric (metric_name, measured_of, measured, measured_ts) "
            "select 'lag', 'all', :days, :then",
            days=days,
            then=(NOW - timedelta(days=days)).replace(tzinfo=None),
        )
    assert purge(chain, config)["metrics"].count == 1
    assert [row["measured"] for row in chain.warehouse.rows("select measured from ops.metric")] == [9]


def test_live_minutes_go_by_their_age_unless_they_are_shown(chain: Chain, config: Settings) -> None:
    """The hour of 12 days ago is held: what people see of it is live's."""
    shown = {
        days: (NOW - timedelta(days=days)).replace(minute=30, second=0, microsecond=0, tzinfo=None)
        for days in (9, 11, 12)
    }
    for days, state in ((12, "held"), (11, "committed"), (0, "committed")):
        moment = (NOW - timedelta(days=days)).replace(minute=0, second=0, microsecond=0, tzinfo=None)
        chain.warehouse.run(
            "insert into ops.slice (slice_id, kind, window_start, window_end, state, planned_ts, published_ts) "
            "select :slice_id, 'hour', :start, :end, :state, :planned, :planned",
            slice_id=f"hour-{days}",
            start=moment,
            end=moment + timedelta(hours=1),
            state=state,
            planned=moment + timedelta(hours=1, minutes=2),
        )
    for minute in shown.values():
        for table in ("sales_minute", "activity_minute"):
            chain.warehouse.run(
                f"insert into live.{table} (minute_ts, country) select :minute, 'France'", minute=minute
            )
        chain.warehouse.run("insert into live.batch (batch_id, written_ts) select 'one', :minute", minute=minute)
    assert purge(chain, config)["live rows"].count == 4
    for table in ("sales_minute", "activity_minute"):
        left = chain.warehouse.rows(f"select minute_ts from live.{table} order by minute_ts desc")
        assert [row["minute_ts"] for row in left] == [shown[9], shown[12]]


def test_files_of_the_streaming_job_go_by_their_age_but_not_what_it_starts_with(chain: Chain, config: Settings) -> None:
    live = chain.folder / "live"
    snapshots = ["snapshots/20261101/snapshot.json", "snapshots/20261102/snapshot.json"]
    old = ["position.json", "signals.json", "batches/a.parquet", *snapshots]
    for name in (*old, "batches/b.parquet"):
        (live / name).parent.mkdir(parents=True, exist_ok=True)
        (live / name).touch()
    for name in old:
        os.utime(live / name, (0, 0))
    assert purge(chain, config)["live files"].count == 2
    assert stored(chain, "live") == ["batches/b.parquet", "position.json", "signals.json", snapshots[1]]


def ago(days: int) -> datetime:
    return (NOW - timedelta(days=days)).replace(tzinfo=None)


def book(chain: Chain, name: str, state: str, days: int, signal_id: str | None = None, action: str = "none") -> None:
    """An alert, raised, handled and ended so many days ago."""
    ended = {"acknowledged": "acknowledged_ts", "resolved": "resolved_ts"}.get(state, "booked_ts")
    handled = "null" if action == "none" else ":then"
    chain.warehouse.run(
        f"insert into ops.alert (alert_id, state, signal_id, action, raised_ts, last_raised_ts, {ended}, handled_ts) "
        f"select :name, :state, :signal_id, :action, :then, :then, :then, {handled}",
        name=name,
        state=state,
        signal_id=signal_id,
        action=action,
        then=ago(days),
    )
    tell(chain, name, days)


def tell(chain: Chain, name: str, days: int) -> None:
    chain.warehouse.run(
        "insert into ops.alert_notice (alert_id, raised_ts, notifier, notified_ts) select :name, :then, 'file', :then",
        name=name,
        then=ago(days),
    )


def decide(chain: Chain, table: str, name: str, state: str, days: int | None) -> None:
    """What was done about an alert 20 days ago, and what people decided about it so many days ago. None: they wrote no
    time."""
    done, decided = {
        "held_order": ("held_ts", "decided_ts"),
        "reorder_draft": ("drafted_ts", "decided_ts"),
        "incident": ("opened_ts", "closed_ts"),
    }[table]
    chain.warehouse.run(
        f"insert into ops.{table} (alert_id, state, {done}, {decided}) select :name, :state, :done, :decided",
        name=name,
        state=state,
        done=ago(20),
        decided=None if days is None else ago(days),
    )


@pytest.fixture
def alerts(chain: Chain) -> Iterator[Callable[[], dict[str, list[str]]]]:
    """No alerts; returns a function: table -> ids of the alerts in it."""
    tables = ("alert", "alert_notice", "held_order", "reorder_draft", "incident", "offer")

    def empty() -> None:
        for table in tables:
            chain.warehouse.run(f"delete from ops.{table}")

    def left() -> dict[str, list[str]]:
        found = {
            table: [row["alert_id"] for row in chain.warehouse.rows(f"select alert_id from ops.{table} order by 1")]
            for table in tables
            if table != "offer"
        }
        return {table: ids for table, ids in found.items() if ids}

    empty()
    yield left
    empty()


Left = Callable[[], dict[str, list[str]]]


def test_alerts_go_some_time_after_they_are_over(chain: Chain, config: Settings, alerts: Left) -> None:
    """One that a signal raised is over when it is acknowledged; another one only when its cause is."""
    book(chain, "resolved", "resolved", 11)
    book(chain, "resolved lately", "resolved", 9)
    book(chain, "signal", "acknowledged", 11, signal_id="1")
    book(chain, "signal lately", "acknowledged", 9, signal_id="2")
    book(chain, "signal that nobody has seen", "open", 11, signal_id="3")
    book(chain, "cause that lasts", "acknowledged", 11)
    assert purge(chain, config)["alerts"].count == 4
    kept = ["cause that lasts", "resolved lately", "signal lately", "signal that nobody has seen"]
    assert alerts() == {"alert": kept, "alert_notice": kept}
    assert purge(chain, config)["alerts"].count == 0


def test_resolved_alert_without_a_time_goes_by_when_it_was_raised(chain: Chain, config: Settings, alerts: Left) -> None:
    book(chain, "by hand", "resolved", 11)
    chain.warehouse.run("update ops.alert set resolved_ts = null")
    purge(chain, config)
    assert alerts() == {}


@pytest.mark.parametrize(
    ("table", "action", "waits", "decided"),
    [
        ("held_order", "hold_order", "held", ["released", "cancelled"]),
        ("reorder_draft", "draft_reorder", "draft", ["ordered", "dropped"]),
        ("incident", "open_incident", "open", ["closed", "closed"]),
    ],
)
def test_alert_goes_with_what_was_decided_and_stays_while_it_waits(
    chain: Chain, config: Settings, alerts: Left, table: str, action: str, waits: str, decided: list[str]
) -> None:
    cases = [("a", decided[0], 11), ("b", decided[1], None), ("c", decided[0], 9), ("d", waits, None)]
    for name, state, days in cases:
        book(chain, name, "acknowledged", 20, signal_id=name, action=action)
        decide(chain, table, name, state, days)
    assert purge(chain, config)["alerts"].count == 6
    assert alerts() == {"alert": ["c", "d"], "alert_notice": ["c", "d"], table: ["c", "d"]}


def test_old_openings_of_an_alert_that_comes_back_go(chain: Chain, config: Settings, alerts: Left) -> None:
    book(chain, "comes back", "open", 1)
    for days in (12, 11, 9):
        tell(chain, "comes back", days)
        decide(chain, "incident", "comes back", "closed", days)
    assert purge(chain, config)["alerts"].count == 4
    assert alerts() == {"alert": ["comes back"], "alert_notice": ["comes back"] * 2, "incident": ["comes back"]}


def test_notice_of_an_open_alert_stays_however_old(chain: Chain, config: Settings, alerts: Left) -> None:
    """Without it people would be told again."""
    book(chain, "long", "open", 100)
    purge(chain, config)
    assert alerts() == {"alert": ["long"], "alert_notice": ["long"]}


@pytest.mark.usefixtures("alerts")
def test_offers_go_by_their_age(chain: Chain, config: Settings) -> None:
    for days in (9, 11):
        chain.warehouse.run(
            "insert into ops.offer (signal_id, offered_ts) select :name, :then", name=f"{days}", then=ago(days)
        )
    assert purge(chain, config)["offers"].count == 1
    assert [row["signal_id"] for row in chain.warehouse.rows("select signal_id from ops.offer")] == ["9"]


def test_slice_that_is_computed_again_keeps_what_it_has_just_written(one: Chain, config: Settings) -> None:
    """It is committed all the while, and its publication reads what it has staged."""
    one.plan(OLD)
    one.transform(OLD)
    one.stage(OLD)
    rows, files = staged_rows(one, OLD), stored(one, "loads", OLD)
    removed = purge(one, config)
    assert (removed["staged rows"].count, removed["files of loads"].count) == (0, 0)
    one.publish(OLD)
    assert (staged_rows(one, OLD), stored(one, "loads", OLD)) == (rows, files)
    assert one.is_balanced()


def test_slice_without_its_files_is_computed_again_to_the_same_content(one: Chain, config: Settings) -> None:
    before = one.content("core", "marts", "ops")
    purge(one, config)
    one.run(OLD)
    assert one.content("core", "marts", "ops") == before
    assert one.is_balanced()


def test_plan_outlives_the_files_because_it_pins_what_a_replay_is_enriched_from(one: Chain, config: Settings) -> None:
    kept = replace(config, keep_archive=timedelta(days=30), keep_audit_pages=timedelta(days=20))
    purge(one, kept)
    assert stored(one, "loads", OLD) == ["audit.html", "plan.json"]
    assert [path.name for path in (one.folder / "loads" / OLD).iterdir() if path.is_dir()] == []


def test_what_a_replay_has_staged_goes_when_it_is_old(one: Chain, config: Settings) -> None:
    (load,) = one.replay("archive")
    assert staged_rows(one, load["load_id"]) == 6
    assert purge(one, config)["staged rows"].count == 0, "it was published a moment ago"
    grow_old(one, OLD, 11)
    grow_old(one, load["load_id"], 11)
    before = one.content("core", "marts", "ops")
    assert purge(one, config)["staged rows"].count == 12, "of the slice's own load too"
    assert stored(one, "loads", load["load_id"]) == []
    assert one.content("core", "marts", "ops") == before


def test_folder_that_the_ledger_does_not_know_is_left_alone(chain: Chain, config: Settings) -> None:
    strange = chain.folder / "loads" / "mine" / "notes.txt"
    strange.parent.mkdir(parents=True)
    strange.write_text("keep")
    os.utime(strange, (0, 0))
    purge(chain, config)
    assert strange.exists()


def test_what_a_killed_writer_left_in_the_archive_goes_by_its_own_age(chain: Chain, config: Settings) -> None:
    parts = [chain.folder / "archive" / "sales.orders" / "0" / name for name in (".old.part", ".young.part")]
    for path in parts:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(parts[0], (0, 0))
    purge(chain, config)
    assert [path.exists() for path in parts] == [False, True]


@pytest.mark.parametrize("task", [Purge(task_id="one", purge="staging"), AlignTopics(task_id="two")])
def test_settings_that_do_not_fit_together_remove_nothing(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADHATTER_STORE", "file:///store")
    monkeypatch.setenv("MADHATTER_KEEP_ARCHIVE_DAYS", "1")
    settings.cache_clear()
    with pytest.raises(
        AirflowFailException, match=r"nothing was removed or changed: .* keep it longer \(docs/settings"
    ):
        task.execute({})
    settings.cache_clear()


def test_store_without_anything_is_no_error(tmp_path: Path, chain: Chain, config: Settings) -> None:
    purge(chain, replace(config, store=(tmp_path / "nothing").as_uri()))
