"""The processes of an instance, found by the mark in their environment: also those that lost their parent."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

MARK = "MADHATTER_SERVICE"


def of_service(home: Path, service: str | None = None) -> list[psutil.Process]:
    """Live processes of the instance in home, of one service or of all; without the caller and its ancestors."""
    kin = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            env = process.environ()
            if (
                MARK in env
                and env.get("MADHATTER_HOME") == str(home)
                and service in (None, env[MARK])
                and process.pid not in kin
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found


def end(processes: list[psutil.Process], grace_s: float = 3.0) -> None:
    """Asks processes to end, kills those that do not within grace_s, and returns when they are gone."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                ask(process)
        deadline = time.monotonic() + grace_s
        while processes := [process for process in processes if _is_alive(process)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    """A zombie has ended: only its parent has not looked yet."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def memory_bytes(pid: int) -> int:
    """Memory of a process and its descendants: proportional (PSS) on Linux, resident elsewhere. 0 when it is gone."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
    return total
