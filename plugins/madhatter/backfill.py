"""Backfills: what nobody has claimed yet in one load, or committed slices once more in as many as it takes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator, BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from madhatter import planning
from madhatter.kafka import CONNECTION as KAFKA
from madhatter.settings import settings

if TYPE_CHECKING:
    from include.beam.plan import Chunk, Source
    from madhatter.ledger import Slice
    from madhatter.warehouse import Warehouse

MOST_SLICES = 200  # of a load: their counts must fit into one statement
MOST_OFFSETS = 2_000_000  # of a load of more than one slice: a live hour waits for one publication at most
LIVE_PATIENCE = timedelta(minutes=30)  # a live slice that takes longer is stuck, and not waited for
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WindowRefused(ValueError):
    """A window that cannot be backfilled: what was asked for, why not, what to ask for."""


@dataclass(frozen=True)
class Request:
    """What a run was asked for. from_, to: arrival times, UTC; None where the form was left empty."""

    mode: Literal["catch_up", "replay"]
    from_: datetime | None
    to: datetime | None
    source: Source

    @classmethod
    def of(cls, params: dict[str, Any], now: datetime) -> Request:
        """From a run's parameters. Raises WindowRefused."""
        from_, to = (_moment(name, params[name]) for name in ("from", "to"))
        own = cls(params["mode"], from_, to, params["source"])
        if to is not None and to > now:
            raise WindowRefused(f"to={to:%Y-%m-%d %H:%M:%S} is in the future: at most {now:%Y-%m-%d %H:%M:%S} (UTC)")
        if own.mode == "catch_up":
            if from_ is not None:
                raise WindowRefused("catch_up begins where the ledger ends: leave `from` empty, or choose replay")
            if own.source == "archive":
                raise WindowRefused("catch_up takes what nobody has read, which no archive has: choose source kafka")
        elif from_ is None or to is None:
            raise WindowRefused("replay needs `from` and `to`: when the events to replay arrived, UTC")
        elif from_ >= to:
            raise WindowRefused(f"from={from_:%Y-%m-%d %H:%M:%S} is not before to={to:%Y-%m-%d %H:%M:%S}: swap them")
        return own


class PlanBackfill(BaseOperator):
    """Returns the loads (`planning.write`) of the run's parameters mode, from, to and source. Run again it returns the
    same and has them computed anew."""

    def __init__(self, *, kafka_conn_id: str = KAFKA, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from include.beam.archive import ArchiveGap
        from madhatter import kafka, warehouse

        began, now = time.monotonic(), datetime.now(UTC)
        run_id = context["dag_run"].run_id
        try:
            asked = Request.of(dict(context["params"]), now)
            with warehouse.session(context) as session:
                if asked.mode == "catch_up":
                    to = asked.to or now
                    slice_id = backfill_id(run_id)
                    planned = [planning.plan(session, slice_id, "backfill", (EPOCH, to), to, self.kafka_conn_id, began)]
                else:
                    bootstrap = kafka.client_settings(self.kafka_conn_id)["bootstrap.servers"]
                    own = settings()
                    planned = list(replay(session, own.store, asked, run_id, bootstrap, own.chunk_size))
                _note(session, run_id, asked, planned)
        except (WindowRefused, ArchiveGap) as error:
            raise AirflowFailException(str(error)) from error
        slices, offsets = sum(len(load["slices"]) for load in planned), sum(load["offsets"] for load in planned)
        self.log.info("%s: %s offsets of %s slices in %s loads", asked.mode, offsets, slices, len(planned))
        return planned


class AfterLiveHours(BaseSensorOperator):
    """Waits while a live slice is on its way, so that a backfill does not keep today's numbers waiting."""

    def __init__(self, **kwargs: Any) -> None:
        # A try that is queued again before the executor has told of the one before counts as failed (seen at 5 s).
        super().__init__(mode="reschedule", poke_interval=20, **kwargs)

    def poke(self, context: Context) -> bool:
        from madhatter import warehouse

        with warehouse.session(context) as session:
            (row,) = session.rows(
                "select min(slice_id) as slice_id from ops.slice where kind = 'hour' and state in "
                "('planned', 'staged', 'audited') and planned_ts > dateadd(second, :patience_s, sysdate())",
                patience_s=-int(LIVE_PATIENCE.total_seconds()),
            )
        if row["slice_id"] is not None:
            self.log.info("slice %s comes first", row["slice_id"])
        return row["slice_id"] is None


def _note(warehouse: Warehouse, run_id: str, asked: Request, loads: list[dict[str, Any]]) -> None:
    """Notes the run, so that others see it and leave its days to it until it is done."""
    window = {"from_ts": asked.from_, "to_ts": asked.to}
    warehouse.run("delete from ops.backfill where run_id = :run_id", run_id=run_id)
    warehouse.run(
        "insert into ops.backfill "
        "(run_id, backfill_mode, read_from, from_ts, to_ts, loads, slices, offsets, planned_ts) "
        "select :run_id, :mode, :source, :from_ts, :to_ts, :loads, :slices, :offsets, sysdate()",
        run_id=run_id,
        mode=asked.mode,
        source=asked.source,
        loads=len(loads),
        slices=sum(len(load["slices"]) for load in loads),
        offsets=sum(load["offsets"] for load in loads),
        **{name: moment and moment.replace(tzinfo=None) for name, moment in window.items()},
    )


def replay(
    warehouse: Warehouse, store: str, asked: Request, run_id: str, bootstrap_servers: str, chunk_size: int
) -> Iterator[dict[str, Any]]:
    """The loads of all committed slices with events that arrived in the window, whole slices, oldest first. Raises
    WindowRefused when there are none, or the window is not closed; ArchiveGap when the archive lacks some of them."""
    slices = _replayed(warehouse, asked)
    yield from loads(warehouse, store, slices, asked.source, run_id, bootstrap_servers, chunk_size)


def loads(
    warehouse: Warehouse,
    store: str,
    slices: list[Slice],
    source: Source,
    run_id: str,
    bootstrap_servers: str,
    chunk_size: int,
) -> Iterator[dict[str, Any]]:
    """The loads that compute committed slices once more. Raises ArchiveGap when the archive lacks some of them."""
    from include.beam import archive
    from include.beam.plan import cut

    def chunks(one: Slice) -> Iterator[Chunk]:
        for claim in one.claims:
            place = (one.slice_id, claim.topic, claim.partition, claim.start, claim.end)
            try:
                yield from archive.chunks(store, *place)
            except archive.ArchiveGap:
                if source == "archive":
                    raise
                yield from cut(*place, chunk_size)

    for number, load in enumerate(group(slices)):
        load_id = f"replay-{_digest(run_id)}-{number}"
        ids = [one.slice_id for one in load]
        pieces = planning.with_fixes(warehouse, ids, (chunk for one in load for chunk in chunks(one)))
        yield planning.write(store, load_id, ids, pieces, load[0].pins, bootstrap_servers, source)


def group(slices: list[Slice]) -> Iterator[list[Slice]]:
    """Slices one load can take, in order: enriched from the same references, not too many, not too large together."""
    load: list[Slice] = []
    for one in slices:
        if load and (
            one.pins != load[0].pins
            or len(load) == MOST_SLICES
            or sum(known.offsets for known in load) + one.offsets > MOST_OFFSETS
        ):
            yield load
            load = []
        load.append(one)
    if load:
        yield load


def _replayed(warehouse: Warehouse, asked: Request) -> list[Slice]:
    from madhatter import ledger

    assert asked.from_ is not None
    assert asked.to is not None
    (row,) = warehouse.rows("select max(window_end) as closed from ops.slice where state = 'committed'")
    closed = row["closed"] and row["closed"].replace(tzinfo=UTC)
    if closed is None or asked.to > closed:
        until = f"{closed:%Y-%m-%d %H:%M:%S} (UTC)" if closed else "nowhere yet"
        raise WindowRefused(f"to={asked.to:%Y-%m-%d %H:%M:%S} is not closed: what is published reaches to {until}")
    found = ledger.committed(warehouse, asked.from_, asked.to)
    if not found:
        raise WindowRefused(
            f"no event that arrived from {asked.from_:%Y-%m-%d %H:%M:%S} to {asked.to:%Y-%m-%d %H:%M:%S} is published: "
            "there is nothing to replay"
        )
    return found


def backfill_id(run_id: str) -> str:
    """The slice id of a run that catches up: the same for every retry of the run."""
    return f"backfill-{_digest(run_id)}"


def _digest(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


def _moment(name: str, text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise WindowRefused(f"{name}={text!r} is no time such as 2026-11-23T10:00:00") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
