"""A short soak with a fixed seed: every kind of fault once, nothing lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys

from local.instance import ROOT


def test_nothing_is_lost_or_doubled_while_everything_fails() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MADHATTER_", "PORT_BASE"))}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    command = [sys.executable, "-m", "tests.chaos.soak", "--minutes", "1", "--seed", "7"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("findings=0"), done.stdout
