"""An hour as `retail_hourly` does it, a day as `retail_daily` and `retention` do, by the platform's own code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil

from local.simulator import batch, shop
from local.simulator.market import Market
from local.simulator.pace import Pace
from local.simulator.sender import Sender, check_topics

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from bench.year.parts import Parts
    from local.instance import Instance

# Orders at the history's pace, and what follows from them; of all else little.
PACE = Pace(42, 0.01, 1.0)
STATEMENT = 100  # letters by which it is known
STEPS = ("plan", "transform", "stage", "audit", "publish", "correct")


@dataclass(frozen=True)
class Cost:
    """Of a step: seconds by the clock, and CPU seconds of this process and of the warehouse together. Others on the
    machine make the first longer, not the second."""

    wall_s: float
    cpu_s: float


Costs = dict[str, Cost]


class Hours:
    """Windows from `start` (UTC) on, so many a day; usually hours. number: of a window since then."""

    def __init__(self, parts: Parts, start: datetime, a_day: int = 24) -> None:
        self.parts, self.start, self.length = parts, start, timedelta(days=1) / a_day
        instance = parts.instance
        self.warehouse = psutil.Process(parts.warehouse_pid)
        self.market = Market(shop.load(), PACE)
        self.sender = Sender(instance.bootstrap, check_topics(instance.bootstrap), batch.SETTINGS, None, "")
        self.statements: dict[str, float] = {}
        _watch(self.statements)
        self.clients = {"bootstrap.servers": instance.bootstrap}

    def open(self) -> None:
        """Sends what is to be known before the first hour: accounts, and what is on the shelves."""
        self.sender.send(self.market.trade.opening(_ms(self.start)))
        self.flush()

    def flush(self) -> None:
        """Returns when the broker has everything. Raises RuntimeError."""
        if left := self.sender.close(batch.FLUSH_S):
            raise RuntimeError(f"{left} events did not reach the broker")

    def window(self, number: int) -> tuple[datetime, datetime]:
        """Start and end of a window."""
        return self.start + number * self.length, self.start + (number + 1) * self.length

    def events(self, number: int) -> Any:
        """What is sent in a window."""
        return self.market.events(*map(_ms, self.window(number)))

    def run(self, number: int) -> Costs:
        """One hour, from its events to the days that it corrects; what each step cost. Raises what the operators
        raise: a slice that is held, a fault in its publication."""
        from include.beam import hourly
        from madhatter import days, planning, publish, warehouse
        from madhatter.audit import AuditLoad
        from madhatter.publish import PublishLoad
        from madhatter.staging import StageLoad

        self.sender.send(self.events(number))
        self.flush()
        self.statements.clear()
        costs: Costs = {}
        own = self.window(number)
        slice_id = planning.hour_id(own[0])
        with self._timed(costs, "plan"), warehouse.session() as session:
            until = datetime.now(UTC) + timedelta(seconds=1)  # all that has arrived
            load = planning.plan(session, slice_id, "hour", own, until, "kafka_default", time.monotonic())
        with self._timed(costs, "transform"):
            if load["offsets"]:
                hourly.main(arguments(load))
        with self._timed(costs, "stage"):
            load = StageLoad(task_id="stage", load=load).execute(context("stage"))
        with self._timed(costs, "audit"):
            AuditLoad(task_id="audit", load=load).execute(context("audit"))
        with self._timed(costs, "publish"):
            load = PublishLoad(task_id="publish", load=load).execute(context("publish"))
        with self._timed(costs, "correct"), warehouse.session() as session:
            due = [one.day for one in days.due(session, datetime.now(UTC)) if one.is_correction]
        if due:
            with self._timed(costs, "corrected days"), warehouse.session() as session:
                publish.roll_up(session, due)
        return costs

    def health(self) -> Costs:
        """What `platform_health` measures every five minutes."""
        from madhatter.health import MeasurePlatform

        costs: Costs = {}
        with self._timed(costs, "health"):
            MeasurePlatform(task_id="measure").execute(context("measure"))
        return costs

    def end_days(self, days: list[str]) -> Costs:
        """Rolls days (ISO) up."""
        from madhatter import publish, warehouse

        costs: Costs = {}
        with self._timed(costs, "day"), warehouse.session() as session:
            publish.roll_up(session, days)
        return costs

    def retain(self) -> Costs:
        """What the DAG `retention` does, but for the topics' bounds."""
        from madhatter.ledger_export import ExportLedger
        from madhatter.retention import PURGES, Purge

        costs: Costs = {}
        tasks: list[BaseOperator] = [ExportLedger(task_id="ledger")]
        tasks += [Purge(task_id=name, purge=name) for name in PURGES]
        for task in tasks:
            with self._timed(costs, f"retention {task.task_id}"):
                task.execute(context(task.task_id))
        return costs

    @contextmanager
    def _timed(self, costs: Costs, step: str) -> Iterator[None]:
        began, cpu = time.perf_counter(), self._cpu_s()
        yield
        costs[step] = Cost(time.perf_counter() - began, self._cpu_s() - cpu)

    def _cpu_s(self) -> float:
        theirs = self.warehouse.cpu_times()
        return time.process_time() + float(theirs.user + theirs.system)


def _watch(seconds: dict[str, float]) -> None:
    """Adds up how long the warehouse takes for each statement, by its first words."""
    from madhatter import warehouse

    execute = warehouse._execute

    def timed(cursor: Any, sql: str, parameters: dict[str, Any]) -> None:
        began = time.perf_counter()
        execute(cursor, sql, parameters)
        words = " ".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))
        name = " ".join(words.split())[:STATEMENT]
        seconds[name] = seconds.get(name, 0) + time.perf_counter() - began

    warehouse._execute = timed


def bound_topics(instance: Instance, day_s: float) -> None:
    """Gives the topics the bounds that the DAG `retention` gives them, in days of so many seconds: a broker's clock is
    not to be moved."""
    from include.contracts.contract import contract, topics
    from madhatter import bounds, kafka

    wanted = {topic: bounds.bounds(contract(topic).retention_ms) for topic in topics()}
    for values in wanted.values():
        for name in ("retention.ms", "segment.ms"):
            values[name] = str(int(int(values[name]) * day_s / 86_400))
    bounds.set_bounds(kafka.admin({"bootstrap.servers": instance.bootstrap}), wanted)


def arguments(load: dict[str, Any]) -> list[str]:
    """The pipeline's command line for a load."""
    parameters: dict[str, str] = load["parameters"]
    return [*(word for name, value in parameters.items() for word in (f"--{name}", value)), "--runner=FnApiRunner"]


def context(task_id: str) -> Any:
    """What the operators take from Airflow."""
    return {"ti": SimpleNamespace(dag_id="bench", task_id=task_id, run_id="bench"), "run_id": "bench"}


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
