"""Why a pipeline failed, in words, from its exit code and the end of its log."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

TAIL_BYTES = 4000
# The line that ends a traceback: `ValueError: text`, `package.module.SomeError: text`.
EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failure)\b.*", re.MULTILINE)


def explain(log: Path, code: int | None) -> str:
    """One line that says what happened, then the end of the log. code: the exit code, None where there is none."""
    tail = _tail(log)
    if code is None:
        what = "The job's processes ended without an exit code: killed from outside, or the machine went down."
    elif code > 128:
        name = signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"signal {code - 128}"
        hint = " (SIGKILL comes from outside: out of memory, or somebody's kill -9)" if name == "SIGKILL" else ""
        what = f"The pipeline's process was killed by {name}{hint}."
    else:
        raised = EXCEPTION.findall(tail)
        last = raised[-1] if raised else (tail.splitlines() or ["it wrote nothing"])[-1]
        what = f"The pipeline ended with exit code {code}: {last.strip()}"
    return f"{what}\nLog: {log}\n{tail}".rstrip()


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode(errors="replace").strip()
