"""A whole platform of the tests' own: started as a user starts it, asked over its public interfaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from local import health
from local.airflow.api import AirflowApi
from local.instance import ROOT, Instance
from local.ports import free_port_base
from local.warehouse import query

UP_TIMEOUT_S = 900
WINDOWS_BEFORE_UP = 6


@dataclass
class Platform:
    """An instance with windows of a minute. Its first windows lie before it was started, so that a test need not wait
    for the clock: they are empty, and run like the others."""

    instance: Instance
    env: dict[str, str]

    @property
    def airflow_url(self) -> str:
        return self.instance.url("airflow")

    @property
    def admin_password(self) -> str:
        return self.instance.secrets.admin_password

    @property
    def bootstrap(self) -> str:
        return self.instance.bootstrap

    @property
    def account(self) -> Path:
        """Where the simulator writes what it sends."""
        return self.instance.home / "account"

    @cached_property
    def api(self) -> AirflowApi:
        return AirflowApi(self.airflow_url, "admin", self.admin_password)

    def log_in_again(self) -> None:
        """For those whose token has expired."""
        self.__dict__.pop("api", None)

    def sql(self, text: str, *parameters: Any) -> list[dict[str, Any]]:
        """Rows of one statement, with lower-case names."""
        return query(self.instance, text, parameters)

    def one(self, text: str, *parameters: Any) -> Any:
        """The only value of the only row."""
        (row,) = self.sql(text, *parameters)
        (value,) = row.values()
        return value

    def local(self, *arguments: str, timeout_s: float = UP_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Runs `python -m local ...`, which is what the make targets call."""
        return subprocess.run(
            [sys.executable, "-m", "local", *arguments],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def pid(self, service: str) -> int:
        """Process id of a service, 0 when it does not run."""
        return next(row.pid for row in health.status(self.instance) if row.name == service)

    def kill(self, service: str) -> int:
        """kill -9 of a service's process; returns its id."""
        pid = self.pid(service)
        os.kill(pid, signal.SIGKILL)
        return pid

    def committed(self) -> list[dict[str, Any]]:
        """Committed windows, oldest first."""
        return self.sql(
            "select * from reporting.slice_status where kind = 'hour' and state = 'committed' order by window_start"
        )


def start(home: Path, **settings: str) -> Platform:
    """A platform with its own ports and state. settings: environment variables on top of the tests' own. Raises
    AssertionError with the output of `up` when that fails."""
    first = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=WINDOWS_BEFORE_UP)
    brokers = settings.get("BROKERS", "1")
    instance = Instance(home, int(settings.get("PORT_BASE") or free_port_base()), int(brokers))
    own = {
        "MADHATTER_HOME": str(home),
        "PORT_BASE": str(instance.port_base),
        "BROKERS": brokers,
        "MADHATTER_CADENCE": "* * * * *",
        "MADHATTER_WINDOW_S": "60",
        "MADHATTER_TAIL_S": "2",
        "PLATFORM_START": first.isoformat(),
        "MADHATTER_ACCOUNT": str(home / "account"),
        "MADHATTER_STREAM": "off",
        **settings,
    }
    os.environ.update(own)  # Instance reads them, as it does in `make up`
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    platform = Platform(instance, env)
    done = platform.local("up")
    if done.returncode:
        platform.local("down")
    assert done.returncode == 0, f"up failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return platform


def until(condition: Callable[[], Any], what: str, timeout_s: float = 300) -> Any:
    """The condition's first true value. Raises AssertionError that says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.5)
