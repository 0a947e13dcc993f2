"""A job's processes: the pipeline, under a wrapper that writes its exit code for whichever server looks later."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import psutil

JOB_ID = "DATAFLOW_JOB_ID"
LOG_LIMIT_BYTES = 16 << 20
# The shell waits for the pipeline; the code appears whole.
WRAPPER = '"$@"; echo $? > "$0.part" && mv "$0.part" "$0"'


def start(job_id: str, folder: Path, command: list[str], env: dict[str, str], root: Path) -> subprocess.Popen[bytes]:
    """Run command in root, in a session of its own, output appended to folder/log, exit code in folder/exit."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", WRAPPER, str(folder / "exit"), *command],
            cwd=root,
            env={**os.environ, "TMPDIR": str(folder), **env, JOB_ID: job_id},  # a killed pipeline leaves files there
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def exit_code(folder: Path) -> int | None:
    """The pipeline's exit code (128 + n after signal n), None while it has none."""
    try:
        return int((folder / "exit").read_text())
    except FileNotFoundError:
        return None


def start_ts(pid: int) -> float | None:
    """Start time of a live process in epoch seconds, None where there is none."""
    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except psutil.NoSuchProcess:
        return None


def is_alive(pid: int, started_ts: float) -> bool:
    """Whether the process that was started then as pid still runs: a pid alone may have got a new owner."""
    now = start_ts(pid)
    return now is not None and abs(now - started_ts) < 1


def members(job_id: str) -> list[psutil.Process]:
    """The live processes of a job, known by their environment: the wrapper, the pipeline, its children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(JOB_ID) == job_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def send(job_id: str, number: signal.Signals, but: int | None = None) -> int:
    """Signal a job's processes except `but` (its wrapper). Returns how many there were."""
    targets = [process for process in members(job_id) if process.pid != but]
    for process in targets:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
    return len(targets)


def bound_log(folder: Path) -> None:
    """Keep a job's log under its limit: the older half goes. The writers append, so they may go on meanwhile."""
    log = folder / "log"
    if log.stat().st_size > LOG_LIMIT_BYTES:
        with log.open("r+b") as file:
            file.seek(-LOG_LIMIT_BYTES // 2, os.SEEK_END)
            rest = file.read()
            file.truncate(0)
        with log.open("ab") as file:
            file.write(b"[older lines were dropped]\n" + rest)
