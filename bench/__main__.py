"""`python -m bench`: an hour of events from Kafka to Parquet by the platform's pipeline, plain Python and Spark 4.2."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from bench import broker, contract, events, measure, spark
from local import table
from local.progress import step

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
OURS = "MadHatter: Beam, hourly.py"
NOTES = """
wall, CPU: of the work alone, without interpreter start, imports and JVM start; the broker's own CPU is not counted,
but it shares the cores, so compare CPU. Peak memory: of all processes of the contender, sampled.
Beyond the peers, ours also keeps the raw bytes and keys (archive), writes slice, topic, arrival and hour beside each
row, accounts for every offset in a manifest, holds amounts as exact decimals, checks lengths and the time window,
and rejects unknown fields and wrong types with their place."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work: its command, and where its accepted and rejected rows are below its output folder."""

    name: str
    command: Sequence[str]
    good: str
    rejected: str
    environment: Mapping[str, str] | None = None


def contenders(bootstrap: str, out: Path, with_spark: bool) -> list[Contender]:
    """All contenders, ours first; each writes to `out`."""
    module = "bench.kafka_to_parquet"
    ours = [sys.executable, "-m", f"{module}.ours", bootstrap, str(out)]
    good, rejected = f"loads/bench/{contract.TABLE}", "loads/bench/dead_letter"
    plain = [sys.executable, "-m", f"{module}.plain_python", bootstrap, contract.TOPIC, str(out)]
    found = [
        Contender(OURS, ours, good, rejected),
        Contender("  the same without archive", [*ours, "--no-archive"], good, rejected),
        Contender("plain Python: DuckDB, pyarrow", plain, "good", "rejected"),
    ]
    if with_spark:
        home = spark.install()
        command = [str(home.python), "-m", f"{module}.spark", bootstrap, contract.TOPIC, str(out), home.jars]
        places = ("is_rejected=false", "is_rejected=true")
        found.append(Contender("Spark 4.2 local[2]", command, *places, home.environment))
    return found


def rows(folder: Path) -> int:
    """Rows of all Parquet files in a folder, by their footers."""
    return sum(pq.ParquetFile(file).metadata.num_rows for file in folder.glob("*.parquet"))


def compare(found: Sequence[Contender], out: Path, rounds: int, sent: int) -> dict[str, list[measure.Pass]]:
    """Runs all contenders in turn, `rounds` times. Raises RuntimeError when they do not agree on the rows."""
    passes: dict[str, list[measure.Pass]] = defaultdict(list)
    counts: dict[str, tuple[int, int]] = {}
    for number in range(rounds):
        for each in found:
            shutil.rmtree(out, ignore_errors=True)
            with step(f"Round {number + 1}: {each.name.strip()}") as say:
                for one in measure.run(each.command, ROOT, each.environment):
                    passes[f"{each.name} {one.name}".rstrip()].append(one)
                counts[each.name] = (rows(out / each.good), rows(out / each.rejected))
                say(f"{counts[each.name][0]:,} good, {counts[each.name][1]:,} rejected")
    if len(set(counts.values())) != 1 or sum(counts[OURS]) != sent:
        raise RuntimeError(f"the contenders do not agree on (good, rejected) of {sent} events: {counts}")
    return passes


def report(passes: Mapping[str, Sequence[measure.Pass]], sent: int) -> str:
    """A row a contender: medians, minima in brackets; the ratio is our events per CPU second over its own."""
    ours = median(one.cpu_s for one in passes[OURS])
    lines = []
    for name, runs in passes.items():
        wall, cpu = [one.wall_s for one in runs], [one.cpu_s for one in runs]
        lines.append(
            [
                name,
                f"{median(wall):.1f} ({min(wall):.1f})",
                f"{median(cpu):.1f} ({min(cpu):.1f})",
                f"{sent / median(cpu):,.0f} ({sent / min(cpu):,.0f})",
                f"{median(one.peak_mb for one in runs):,.0f}",
                f"{ours / median(cpu):.2f}",
            ]
        )
    return table.text(["", "wall s", "CPU s", "events / CPU s", "peak MB", "speed by CPU, ours = 1"], lines)


def measured(count: int, rounds: int, with_spark: bool) -> tuple[dict[str, list[measure.Pass]], int]:
    """All contenders' passes over `count` events on a broker of their own, and the messages sent."""
    with tempfile.TemporaryDirectory(prefix="madhatter-bench-") as temporary:
        folder = Path(temporary)
        with broker.running(folder / "broker") as bootstrap:
            found = contenders(bootstrap, folder / "out", with_spark)
            with step(f"Send {count:,} events") as say:
                broker.create_topic(bootstrap, contract.TOPIC, PARTITIONS)
                sent = events.send(bootstrap, contract.TOPIC, count)
                say(f"{sent:,} messages")
            return compare(found, folder / "out", rounds, sent), sent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="events to send, without the 1 %% sent twice")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each contender, in turn")
    parser.add_argument("--no-spark", action="store_true", help="leave Spark out, and its 450 MB")
    known = parser.parse_args()
    try:
        passes, sent = measured(known.events, known.rounds, not known.no_spark)
    except (RuntimeError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\n{sent:,} messages, {known.rounds} rounds: median (best). {platform.machine()}, {os.cpu_count()} cores")
    print(f"{report(passes, sent)}\n{NOTES}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
