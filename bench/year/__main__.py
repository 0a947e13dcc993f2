"""What an hour costs at the end of a month and of a year, and what grows meanwhile.

python -m bench.year [--month 30] [--points 1,29,92,183,365]

Real parts without Airflow: a broker, the warehouse's own process, the pipeline, the operators' own code, the simulator.
The first days (--month) go hour by hour, with all that `retail_hourly`, `retail_daily` and `retention` do; what is kept
is kept for three days, so that all bounds are reached. Then days are loaded as a replay is, up to 200 hours a load, and
at each point (all of one weekday) five hours, 10:00 to 14:59, are measured again. bench/year/clock.py says how the
clock is moved.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.year import clock, fill, parts, report
from bench.year.hours import Hours, bound_topics
from bench.year.parts import Parts
from local.instance import ROOT, Instance
from local.progress import note
from local.simulator.events import TOPICS

KEPT = 3
EXPIRY_S = 60
DAY = timedelta(days=1)
MEASURED = range(10, 15)  # hours of a day


@dataclass(frozen=True)
class Asked:
    """month: days that go window by window, a_day: windows of a day; points: days (from 1 on) at which the hours of
    MEASURED are measured after a month; end: of the last day, UTC."""

    month: int
    points: tuple[int, ...]
    a_day: int
    end: datetime


class Run:
    """The whole of it. Writes a line of JSON for each hour and each day to `out`."""

    def __init__(self, own: Parts, out: Path, asked: Asked) -> None:
        self.parts, self.asked, self.out = own, asked, out.open("w")
        self.hours = Hours(own, asked.end - max(asked.month, *asked.points, 1) * DAY, asked.a_day)
        self.next = 0

    def note(self, kind: str, **found: Any) -> None:
        """days: that have passed; a_day: windows of a day."""
        line = {"kind": kind, "days": self.next / self.asked.a_day, "a_day": self.asked.a_day, **found}
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()

    def hour(self) -> None:
        """One hour by itself."""
        costs = self.hours.run(self.next)
        self.next += 1
        costs |= self.hours.health()
        self.note("hour", costs={name: asdict(cost) for name, cost in costs.items()}, size=self.size())
        self.note("statements", seconds={name: round(s, 4) for name, s in self.hours.statements.items()})

    def size(self) -> dict[str, int]:
        return asdict(parts.measure(self.parts))

    def pass_on(self, first: int) -> None:
        """What comes after the windows [first, next): the clock is turned, days that are over are rolled up, what is
        old is removed."""
        from madhatter import warehouse

        begin, end = self.hours.window(first)[0], self.hours.window(self.next)[0]
        with warehouse.session() as session:
            clock.turn(session, self.parts, end - begin)
            clock.spread(session, begin, end)
        days = [(begin + n * DAY).date().isoformat() for n in range((end.date() - begin.date()).days)]
        costs = self.hours.end_days(days) | self.hours.retain() if days else {}
        self.note("day", costs={name: asdict(cost) for name, cost in costs.items()}, size=self.size())

    def month(self) -> None:
        """Days window by window. The first tells how long a day is for the broker."""
        for number in range(self.asked.month):
            began, first = time.monotonic(), self.next
            for _ in range(self.asked.a_day):
                self.hour()
            self.pass_on(first)
            if number == 0:
                bound_topics(self.parts.instance, time.monotonic() - began)
            note(f"day {number + 1}: {time.monotonic() - began:.0f} s")

    def load(self, end: int) -> None:
        """The hours up to `end`, in loads."""
        for first, past_last in fill.blocks(self.next, end):
            began = time.monotonic()
            fill.fill(self.hours, first, past_last)
            self.next = past_last
            self.pass_on(first)
            note(f"{past_last} of {end} hours: {time.monotonic() - began:.0f} s")

    def point(self, day: int) -> None:
        """Some hours of a day (from 1 on), by themselves."""
        self.load(24 * (day - 1) + MEASURED.start)
        first = self.next
        for _ in MEASURED:
            self.hour()
        self.pass_on(first)

    def end(self) -> None:
        """What there is in the end; expired: offsets that have left the log. Raises RuntimeError when something is
        lost."""
        from madhatter import kafka, warehouse

        with warehouse.session() as session:
            (found,) = session.rows(
                "select (select count(*) from ops.slice) as slices, (select count(*) from ops.slice_partition) as "
                "partitions, (select count(*) from ops.slice where state <> 'committed') as unfinished, "
                "(select sum(delivered) from ops.reconciliation) as delivered, "
                "(select sum(published) from ops.reconciliation) as published, "
                "(select count(*) from ops.reconciliation where not is_balanced) as unbalanced"
            )
        client = kafka.admin(self.hours.clients)
        deadline = time.monotonic() + EXPIRY_S
        while True:
            log = kafka.read_log(client, TOPICS, datetime.now(UTC)).values()
            if (expired := sum(one.first for one in log)) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        sent = sum(one.stable_end for one in log)
        self.note("end", **{name: int(value or 0) for name, value in found.items()}, sent=sent, expired=expired)
        if found["unfinished"] or found["unbalanced"] or found["delivered"] != sent:
            raise RuntimeError(f"something is lost: {found}")


def measure(own: Parts, out: Path, asked: Asked) -> None:
    """Runs it in this process, which has an instance's environment."""
    parts.create_topics(own.instance)
    run = Run(own, out, asked)
    run.hours.open()
    run.month()
    for day in asked.points:
        if day > asked.month:
            run.point(day)
    run.end()


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.year", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--month", type=int, default=30, help="days that go hour by hour")
    parser.add_argument("--points", default="1,29,92,183,365", help="days with five measured hours")
    parser.add_argument("--a-day", type=int, default=24, help="windows of a day; without --points")
    parser.add_argument("--kept", type=int, default=KEPT, help="days that everything is kept")
    parser.add_argument("--end", type=_day, default=_day(None), help="the day (ISO) before which it ends; today")
    parser.add_argument("--out", type=Path, help="keep the measurements here, as lines of JSON")
    parser.add_argument("--chart", type=Path, help="write the chart here, as SVG")
    parser.add_argument("--report", type=Path, nargs="+", help="only report what was measured before, of several runs")
    parser.add_argument("--warehouse", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    points = tuple(int(day) for day in options.points.split(",") if day)
    if options.warehouse:
        asked = Asked(options.month, points, options.a_day, options.end)
        measure(Parts(Instance.current(), options.warehouse), options.out, asked)
        return 0
    if options.report:
        return _tell(options.report, options.chart)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no process stays behind
    with tempfile.TemporaryDirectory(prefix="bench-year-") as folder:
        out = (options.out or Path(folder) / "measured.jsonl").absolute()
        kept = dict.fromkeys(("STAGING", "LOG", "AUDIT_PAGES", "ARCHIVE", "DEAD_LETTERS", "METRICS"), options.kept)
        instance = parts.instance_in(Path(folder).resolve() / "home", kept)
        command = [sys.executable, "-m", "bench.year", "--out", str(out), "--month", f"{options.month}"]
        command += ["--points", options.points, "--a-day", f"{options.a_day}", "--end", options.end.date().isoformat()]
        try:
            with parts.running(instance) as own:
                done = subprocess.run(
                    [*command, "--warehouse", f"{own.warehouse_pid}"],
                    cwd=ROOT,
                    env=instance.environment() | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
                    check=False,
                )
        except RuntimeError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        return done.returncode or _tell([out], options.chart)


def _day(text: str | None) -> datetime:
    moment = datetime.fromisoformat(text) if text else datetime.now(UTC)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)


def _tell(measured: list[Path], chart: Path | None) -> int:
    found = [line for one in measured for line in report.read(one)]
    print(f"\n{platform.machine()}, {os.cpu_count()} cores\n{report.text(found)}")
    if chart is not None:
        chart.write_text(report.chart(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
