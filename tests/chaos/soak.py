"""Seeded traffic through a whole platform while everything fails: nothing may be lost, nothing doubled.

python -m tests.chaos.soak --minutes 5 --seed 7

Starts a platform of its own, injects every kind of fault at random moments, lets the platform recover, compares what it
has made with the truth, and ends with one line of figures. Exit code 1 when anything is lost, doubled or different.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from confluent_kafka import Consumer, KafkaException, TopicPartition

from include.contracts.contract import topics
from local import services
from local.ports import free_port_base
from tests import platform as platforms
from tests.chaos import faults
from tests.chaos.proxy import Proxy
from tests.chaos.verdict import Verdict, judge
from tests.platform import Platform, until

PROXY_SHIFT = 100
DISKS = {"kafka": "400m", "warehouse": "600m", "store": "300m"}
GAP_S = (1.0, 9.0)  # between the begins of two faults until each kind had its turn; they overlap
LATER_GAP_S = (2.0, 20.0)  # then: the platform may publish something in between
OVERTIME_S = 240  # for kinds that found nothing to harm
DRAIN_S = 600
RATE = 100  # events a second


def say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")
    sys.stdout.flush()


class Soak:
    """One run: a platform, its faults, its verdict."""

    def __init__(self, folder: Path, minutes: float, seed: int) -> None:
        self.folder, self.minutes, self.seed = folder, minutes, seed
        self.chance = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.ends: list[datetime] = []  # of faults, UTC
        self.cleared = 0
        self.recovery = ""
        self._mounted: list[Path] = []

    def run(self) -> Verdict:
        """Raises AssertionError when the platform does not even start."""
        home = self.folder / "home"
        base = free_port_base()
        proxies = {
            name: Proxy(base + offset + PROXY_SHIFT, base + offset, reads_http=name == "warehouse")
            for name, offset in (("kafka", 92), ("warehouse", 84))
        }
        disks = [self._mount(home / "data" / name, size) for name, size in DISKS.items()]
        for proxy in proxies.values():
            proxy.start()
        platform = None
        try:
            platform = platforms.start(
                home,
                PORT_BASE=str(base),
                MADHATTER_PROXY_SHIFT=str(PROXY_SHIFT),
                MADHATTER_HISTORY="none",
                MADHATTER_LIVE_RATE=str(RATE),
                MADHATTER_CHUNK_SIZE="500",
                PLATFORM_START=datetime.now(UTC).replace(second=0, microsecond=0).isoformat(),
            )
            say(f"seed {self.seed}: the platform is up at {platform.airflow_url}")
            target = faults.Target(platform, proxies["kafka"], proxies["warehouse"], disks, self.chance)
            self._torment(target)
            faults.mended(target)
            self._drain(platform)
            self.recovery = self._recovery(platform)
            verdict = judge(platform, self.folder)
            say("rebuilds")
            rebuilt = platform.local("drill")
            verdict.expect_nothing("tables that a rebuild makes differently", _differing(rebuilt))
            return verdict
        finally:
            if platform is not None:
                faults.mended(target)
                down = platform.local("down")
                if down.returncode:
                    say(f"down failed: {down.stdout}{down.stderr}")
            for proxy in proxies.values():
                proxy.stop()
            for disk in self._mounted:
                subprocess.run(["umount", "--lazy", str(disk)], check=False)

    def _mount(self, folder: Path, size: str) -> Path:
        folder.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "soak", str(folder)], check=False)
        if done.returncode:
            raise SystemExit(
                "a soak fills small disks of its own, and may not mount them here: run it on Linux as root"
            )
        self._mounted.append(folder)
        return folder

    def _torment(self, target: faults.Target) -> None:
        """Every kind of fault in random order, again and again, until the time is over and each has happened."""
        end = time.monotonic() + self.minutes * 60
        bag: list[str] = []
        threads: list[threading.Thread] = []
        gap_s = GAP_S
        while True:
            missing = set(faults.ALL) - set(self.done)
            if (time.monotonic() > end and not missing) or time.monotonic() > end + OVERTIME_S:
                break
            if not bag:
                waiting = {thread.name for thread in threads if thread.is_alive()}
                names = sorted(missing - waiting) if time.monotonic() > end else list(faults.ALL)
                bag = self.chance.sample(names, len(names))
                gap_s = LATER_GAP_S if threads else GAP_S
            if bag:
                own = replace(target, chance=random.Random(f"{self.seed} {len(threads)}"))
                name = bag.pop()
                thread = threading.Thread(target=self._inject, args=(name, own), name=name)
                thread.start()
                threads.append(thread)
            time.sleep(self.chance.uniform(*gap_s))
        for thread in threads:
            thread.join()

    def _inject(self, name: str, target: faults.Target) -> None:
        try:
            happened = faults.ALL[name](target)
        except Exception as error:  # the platform is in trouble on purpose: a call to it may well fail
            say(f"{name}: {error!r}")
            happened = False
        say(f"{name}{'' if happened else ': nothing to harm'}")
        if happened:
            self.done[name] += 1
            self.ends.append(datetime.now(UTC).replace(tzinfo=None))

    def _drain(self, platform: Platform) -> None:
        """No more events; every offset is committed, with what an operator would do: clear what has failed for good."""
        until(lambda: self._is_caught_up(platform), "all that the generator has made is in the log", 180)
        services.stop(platform.instance, ["live"])
        say("drains")
        cleared: Counter[str] = Counter()

        def is_drained() -> bool:
            try:
                for run in platform.api.runs("retail_hourly", state="failed"):
                    cleared[run["dag_run_id"]] += 1
                    body = {
                        "dry_run": False,
                        "dag_run_id": run["dag_run_id"],
                        "only_failed": True,
                        "reset_dag_runs": True,
                    }
                    platform.api._call("POST", "/api/v2/dags/retail_hourly/clearTaskInstances", body)
                return not self._left(platform)
            except Exception as error:
                say(f"asks again: {error!r}")
                return False

        try:
            until(is_drained, "all is committed", DRAIN_S)
        except AssertionError as error:
            say(f"{error}: {self._left(platform)} offsets are left")
        self.cleared = cleared.total()

    def _recovery(self, platform: Platform) -> str:
        """Seconds to the next publication from the end of each fault while others go on, and from the last one; and
        from that to the last publication."""
        rows = platform.sql("select committed_ts from ops.slice where committed_ts is not null order by 1")
        moments = [row["committed_ts"] for row in rows]
        later = [[(moment - end).total_seconds() for moment in moments if moment > end] for end in sorted(self.ends)]
        if not later or not later[-1]:
            return "nothing was published after the last fault"
        at = sorted(min(seconds) for seconds in later)
        return (
            f"recovered in s: median {at[len(at) // 2]:.0f}, after the last fault {min(later[-1]):.0f}, "
            f"caught up {max(later[-1]):.0f}"
        )

    def _is_caught_up(self, platform: Platform) -> bool:
        try:
            made = duckdb.execute(f"select count(*) from read_parquet('{platform.account}/*.parquet')").fetchone()
            return made is not None and self._sent(platform) >= made[0]
        except (duckdb.Error, KafkaException) as error:
            say(f"asks again: {error!r}")
            return False

    def _sent(self, platform: Platform) -> int:
        """Offsets of the log."""
        consumer = Consumer({"bootstrap.servers": platform.bootstrap, "group.id": "soak"})
        try:
            known = consumer.list_topics(timeout=10).topics
            places = [TopicPartition(topic, partition) for topic in topics() for partition in known[topic].partitions]
            return sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        finally:
            consumer.close()

    def _left(self, platform: Platform) -> int:
        """Offsets of the log that are not committed."""
        sent = self._sent(platform)
        committed = platform.one(
            "select coalesce(sum(end_offset - start_offset), 0) from ops.slice_partition as part "
            "join ops.slice on part.slice_id = slice.slice_id where slice.state = 'committed'"
        )
        return int(sent - committed)


def _differing(drill: subprocess.CompletedProcess[str]) -> list[str]:
    """What a restore drill has found, line by line."""
    lines = drill.stdout.splitlines()
    if drill.returncode and not any("DIFFERS" in line for line in lines):
        return [drill.stdout[-1000:] + drill.stderr[-1000:]]
    return [line for line in lines if "DIFFERS" in line]


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--keep", action="store_true", help="keep the state folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(folder, options.minutes, options.seed)
    say(f"seed {options.seed}, {options.minutes:g} minutes, in {folder}")
    try:
        verdict = soak.run()
    except Exception:
        traceback.print_exc()
        verdict = Verdict(["the soak itself failed"])
    never = sorted(set(faults.ALL) - set(soak.done))
    if never:
        verdict.findings.append(f"faults that never happened: {', '.join(never)}")
    for finding in verdict.findings:
        say(f"FOUND {finding}")
    say(f"faults {json.dumps(dict(sorted(soak.done.items())))}")
    counts = ", ".join(f"{name} {count}" for name, count in verdict.counts.items())
    sys.stdout.write(
        f"soak seed={soak.seed} minutes={soak.minutes:g} faults={soak.done.total()} kinds={len(soak.done)} "
        f"cleared={soak.cleared} events: {counts}; {soak.recovery}; findings={len(verdict.findings)}\n"
    )
    if not options.keep and not verdict.findings:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
