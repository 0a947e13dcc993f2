"""Runs one contender as a fresh process: what it says it used, and the memory that its processes had at their peak."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import psutil

SAMPLE_S = 0.1


@dataclass(frozen=True)
class Pass:
    """One pass over all events. wall_s, cpu_s: of the work, without imports; peak_mb: of the whole process tree."""

    name: str
    wall_s: float
    cpu_s: float
    peak_mb: float


def run(command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> list[Pass]:
    """The passes of one process, from the JSON lines it prints. Raises RuntimeError with its last words."""
    with TemporaryFile() as out, TemporaryFile() as errors:
        process = psutil.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=errors)
        peak = 0
        try:
            while process.poll() is None:
                peak = max(peak, _resident(process))
                time.sleep(SAMPLE_S)
        finally:
            _end(process)
        out.seek(0)
        errors.seek(0)
        lines, said = out.read().decode(), errors.read().decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{(said or lines)[-3000:]}")
    passes = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    return [Pass(each["name"], each["wall_s"], each["cpu_s"], peak / 1e6) for each in passes]


def _resident(process: psutil.Popen) -> int:
    """Bytes of memory of the process and all below it; one that ends meanwhile counts as nothing."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total


def _end(process: psutil.Popen) -> None:
    """Ends the process and all below it, where it was interrupted."""
    with suppress(psutil.NoSuchProcess):
        for each in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()
