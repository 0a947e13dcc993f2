"""A platform of a benchmark's own: free ports, state in a folder of its own, settings that nobody's shell changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local.instance import OWN, ROOT, Instance
from local.ports import free_port_base


def start(home: Path, **settings: str) -> Instance:
    """Runs `make up`'s command. settings: environment variables. Raises RuntimeError with its last words."""
    own = {"MADHATTER_HOME": str(home), "PORT_BASE": str(free_port_base()), **settings}
    for name in [name for name in os.environ if name.startswith(OWN)]:
        del os.environ[name]
    os.environ.update(own)  # Instance reads them, as it does in `make up`
    run("-m", "local", "up")
    return Instance.current()


def run(*arguments: str) -> str:
    """What a Python process prints. Raises RuntimeError with its last words."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    return done.stdout
