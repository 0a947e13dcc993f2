"""How long an hour of a million events takes from its plan to its announcement, on a platform of its own.

python -m bench.hour [--events 1000000]

Beside it, in the same run: plain Python that reads the same messages, parses each with json.loads, looks for what every
event must have, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from bench import own
from local import table
from local.airflow.api import AirflowApi
from local.instance import Instance
from local.progress import step
from local.warehouse import query

EVENTS = 1_000_000
WINDOW_S, TAIL_S = 120, 5
TIMEOUT_S = 900
LIMIT_S, LIMIT_MB = 45, 1_500  # for the hour on two cores, and for the pipeline's process
STAGES = ("plan", "transform", "stage", "audit", "publish")


def start(home: Path) -> Instance:
    """A platform with windows of two minutes and no live events; its first window is the current one."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return own.start(
        home,
        MADHATTER_CADENCE=f"*/{WINDOW_S // 60} * * * *",
        MADHATTER_WINDOW_S=str(WINDOW_S),
        MADHATTER_TAIL_S=str(TAIL_S),
        MADHATTER_LIVE_RATE="0",
        PLATFORM_START=(now - timedelta(minutes=now.minute % (WINDOW_S // 60))).isoformat(),
    )


def send(instance: Instance, events: int) -> str:
    """The market of the last hour at the rate that makes so many events, sent within one window."""
    # After the tail of the window before, and long enough before the end of this one.
    while not 2 * TAIL_S < time.time() % WINDOW_S < WINDOW_S / 2:
        time.sleep(0.5)
    end = datetime.now(UTC).replace(microsecond=0)
    window = ["--from", (end - timedelta(hours=1)).isoformat(), "--to", end.isoformat()]
    bootstrap = ["--bootstrap", instance.address("kafka")]
    return own.run("-m", "local.simulator.batch", *bootstrap, *window, "--rate", f"{events / 3600:.3f}").strip()


def published(instance: Instance, at_least: int) -> tuple[dict[str, Any], float]:
    """The committed slice with so many events, and the most memory its pipeline's process had, in MB."""
    peak, asked, deadline = 0, 0.0, time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        peak = max(peak, _pipeline_bytes(instance))
        if time.monotonic() - asked > 5:
            asked = time.monotonic()
            rows = query(instance, "select * from reporting.slice_status where kind = 'hour' order by delivered desc")
            # publish notes its seconds after its commit
            if rows and (rows[0]["delivered"] or 0) >= at_least and rows[0]["publish_s"] is not None:
                return rows[0], peak / 1e6
            if sum(row["delivered"] or 0 for row in rows) >= at_least > (rows[0]["delivered"] or 0):
                raise RuntimeError("a window ended while the events were sent: they are not in one slice; try again")
            if held := [row["slice_id"] for row in rows if row["state"] == "held"]:
                raise RuntimeError(f"the audit holds {', '.join(held)}")
        time.sleep(0.2)
    raise RuntimeError(f"no slice of {at_least:,} events is committed after {TIMEOUT_S} s")


def _pipeline_bytes(instance: Instance) -> int:
    """Resident memory of the largest pipeline process."""
    most = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            command = process.cmdline()
            if "include.beam.hourly" in command and any(str(instance.home) in part for part in command):
                most = max(most, process.memory_info().rss)
    return most


def from_plan_to_announce(instance: Instance) -> float:
    """Seconds of the run that took longest, by Airflow's clock."""
    api = AirflowApi(instance.url("airflow"), "admin", instance.secrets.admin_password)
    deadline = time.monotonic() + TIMEOUT_S
    while api.runs("retail_hourly", state="running") and time.monotonic() < deadline:
        time.sleep(0.5)
    longest = 0.0
    for run in api.runs("retail_hourly", state="success"):
        tasks = {task["task_id"]: task for task in api.tasks("retail_hourly", run["dag_run_id"])}
        began, ended = (
            datetime.fromisoformat(tasks[name][moment])
            for name, moment in (("plan", "start_date"), ("announce", "end_date"))
        )
        longest = max(longest, (ended - began).total_seconds())
    return longest


def plain_python(bootstrap: str, places: list[tuple[str, int, int, int]]) -> dict[str, float]:
    """Reads the messages of (topic, partition, first, end), parses and looks at each; returns counts and seconds."""
    from local.simulator import log

    began, cpu = time.monotonic(), time.process_time()
    good = bad = 0
    ends = {(topic, partition): end for topic, partition, _, end in places}
    for message in log.read(bootstrap, {(topic, partition): first for topic, partition, first, _ in places}):
        if (message.offset() or 0) >= ends[message.topic() or "", message.partition() or 0]:
            continue
        try:
            event = json.loads(message.value() or b"")
            good += isinstance(event["event_id"], str) and isinstance(event["event_ts"], str)
        except (ValueError, KeyError, TypeError):
            bad += 1
    return {"good": good, "bad": bad, "wall_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}


def report(row: dict[str, Any], total_s: float, peak_mb: float, plain: dict[str, float]) -> str:
    """Seconds per stage and in all, memory, and the peer's."""
    stages = [[name, f"{row[f'{name}_s']:.1f}"] for name in STAGES]
    between_s = total_s - sum(float(row[f"{name}_s"]) for name in STAGES)
    lines = [*stages, ["starting tasks, waiting between them", f"{between_s:.1f}"]]
    lines.append([f"from plan to announce (limit {LIMIT_S})", f"{total_s:.1f}"])
    lines.append(["plain Python: read, json.loads, two checks", f"{plain['wall_s']:.1f}"])
    counts = " + ".join(f"{row[name]:,} {name}" for name in ("published", "duplicates", "dead_letters"))
    return (
        f"{table.text(['', 'seconds'], lines)}\n"
        f"{row['delivered']:,} delivered = {counts.replace('_', ' ')}\n"
        f"The pipeline's process had {peak_mb:,.0f} MB at most (limit {LIMIT_MB:,}).\n"
        f"All of the chain takes {total_s / plain['wall_s']:.1f} times as long as plain Python takes to parse."
    )


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.hour", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        print(json.dumps(plain_python(options.bootstrap, json.loads(options.plain))))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the platform does not stay behind
    with tempfile.TemporaryDirectory(prefix="bench-hour-") as folder:
        try:
            with step("A platform of its own"):
                instance = start(Path(folder).resolve() / "home")
            with step("Send") as say:
                say(send(instance, options.events))
            with step("Publish") as say:
                row, peak_mb = published(instance, int(options.events * 0.9))
                say(row["slice_id"])
            total_s = from_plan_to_announce(instance)
            with step("Plain Python"):
                offsets = (
                    "select topic, partition, start_offset, end_offset from ops.slice_partition where slice_id = %s"
                )
                places = json.dumps([list(place.values()) for place in query(instance, offsets, [row["slice_id"]])])
                plain = own.run("-m", "bench.hour", "--bootstrap", instance.address("kafka"), "--plain", places)
        except (RuntimeError, OSError) as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        finally:
            with suppress(RuntimeError):
                own.run("-m", "local", "down")
    print(f"\n{os.cpu_count()} cores\n{report(row, total_s, peak_mb, json.loads(plain))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
