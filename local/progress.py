"""Named steps with their elapsed time: one line that moves on a terminal, lines of their own in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]
FIRST_LOG_LINE_S = 2.0
LOG_LINE_EVERY_S = 5.0


@contextmanager
def step(name: str) -> Iterator[Say]:
    """Shows name while the block runs, then its seconds. The value is called with a detail to show beside it.

    A step that fails says so; its exception goes on.
    """
    start, detail, done = time.monotonic(), [""], threading.Event()
    tty = sys.stdout.isatty()
    ticker = threading.Thread(target=_tick, args=(name, start, detail, done, tty), daemon=True)
    ticker.start()

    def say(text: str) -> None:
        detail[0] = text

    mark = "failed"
    try:
        yield say
        mark = "ok"
    finally:
        done.set()
        ticker.join()
        _show(f"{mark:>6}  {name:<28} {time.monotonic() - start:6.1f} s  {detail[0]}", tty, last=True)


def note(text: str) -> None:
    """A line of its own that stays, above the running step's."""
    _show(f"{'':>6}  {text}", sys.stdout.isatty(), last=True)


def _tick(name: str, start: float, detail: list[str], done: threading.Event, tty: bool) -> None:
    wait_s = 0.1 if tty else FIRST_LOG_LINE_S
    while not done.wait(wait_s):
        wait_s = 0.2 if tty else LOG_LINE_EVERY_S
        _show(f"{'...':>6}  {name:<28} {time.monotonic() - start:6.1f} s  {detail[0]}", tty, last=False)


def _show(line: str, tty: bool, last: bool) -> None:
    if tty:
        sys.stdout.write(f"\r\x1b[2K{line}" + ("\n" if last else ""))
    else:
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()
