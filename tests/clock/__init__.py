"""A platform's own time of day, which a test moves: for machines that sleep and outages that last days (Linux)."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from local import processes

SOURCE = Path(__file__).with_name("moved.c")


class MovedClock:
    """The time of day of all processes that are started with `environment()`. What they wait for in seconds goes on."""

    def __init__(self, folder: Path, now: datetime) -> None:
        """folder: to be filled. now: what the clock says at first. Raises AssertionError where there is no compiler."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        assert sys.platform == "linux", "the clock is moved by a library that is preloaded, as Linux does it"
        assert compiler, "A C compiler is missing: apt-get install gcc libc6-dev"
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._file = folder / "moved.so", folder / "moved"
        options = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror"]
        subprocess.run([compiler, *options, "-o", str(self._library), str(SOURCE), "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.set(now)

    def environment(self) -> dict[str, str]:
        """Of a process whose clock is moved, and of all that it starts."""
        return {"LD_PRELOAD": str(self._library), "MOVED_CLOCK": str(self._file)}

    @property
    def now(self) -> datetime:
        """What the clock says, UTC."""
        return datetime.fromtimestamp(time.time() + self._moved_s(), UTC)

    def set(self, moment: datetime) -> None:
        """Moves the clock to a moment (UTC), at once for everybody."""
        moved_s = round(moment.timestamp() - time.time())
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", moved_s))

    def sleep(self, home: Path, until: datetime) -> None:
        """What a laptop's sleep is to an instance: all its processes stand still, then go on in another time."""
        sleeping: set[psutil.Process] = set()
        while awake := set(processes.of_service(home)) - sleeping:  # until nobody is left to start another
            for process in awake:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            sleeping |= awake
        self.set(until)
        for process in sleeping:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _moved_s(self) -> int:
        (moved_s,) = struct.unpack("=q", self._file.read_bytes())
        return int(moved_s)
