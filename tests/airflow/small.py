"""A small real Airflow: its four components over SQLite, beside the stand-ins and the book of alerts, no more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from local import processes
from local.airflow.api import AirflowApi
from local.instance import ROOT, Instance
from local.services import AIRFLOW
from tests.dataflow.stand_in import HERE as TEMPLATES
from tests.dataflow.stand_in import Server
from tests.functions.running import Live
from tests.stand_ins import Snowflake

DEADLINE_S = 480
DAGS = ("alert_response", "retail_stream")
T = TypeVar("T")


def until(look: Callable[[], T], what: str) -> T:
    """The first true answer of look."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain until {what}"
        time.sleep(0.2)
    return answer


@dataclass
class SmallAirflow:
    """folder: its state. The DAGs are those of the platform that need no broker, paused until a test wants them, and
    the tests' own."""

    folder: Path
    snowflake: Snowflake
    live: Live
    settings: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.instance = Instance(self.folder / "home", self.snowflake.base)
        port = self.instance.port
        self.dataflow = Server(self.folder / "dataflow", port("dataflow"), port("dataflow_grpc"))

    @cached_property
    def env(self) -> dict[str, str]:
        """The platform's own environment, led to the tests' DAGs, templates and Pub/Sub."""
        dags, templates = self.folder / "dags", self.folder / "templates"
        for folder in (dags, templates):
            folder.mkdir()
        for file in (*(ROOT / "dags" / f"{name}.py" for name in DAGS), *(Path(__file__).parent / "dags").glob("*.py")):
            shutil.copy(file, dags)
        shutil.copy(TEMPLATES / "live.json", templates)
        store = self.folder / "store"
        store.mkdir()
        own = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "MADHATTER_STORE": store.as_uri(),
            "MADHATTER_STREAM_TRIES": "3",
            "MADHATTER_TEMPLATES": templates.as_uri(),
        }
        return self.instance.environment() | self.live.settings | own | self.settings

    def start(self) -> None:
        self.dataflow.start()
        home = self.instance.airflow_home
        home.mkdir(parents=True)
        (home / "passwords.json").write_text(json.dumps({"admin": self.instance.secrets.admin_password}))
        self._run("migrate", "db", "migrate").wait()
        for name in AIRFLOW:
            self.launch(name)
        until(self._is_ready, f"Airflow is ready; its logs are in {self.folder}")

    def launch(self, service: str) -> None:
        """Starts one of the four components."""
        component = {"airflow-api": "api-server"}.get(service, service.removeprefix("airflow-"))
        more = ["--skip-serve-logs"] if component in ("scheduler", "triggerer") else []
        self._run(service, component, *more)

    def kill(self, service: str) -> None:
        """kill -9 of a component and its children."""
        for process in processes.of_service(self.instance.home, service):
            process.kill()

    def end(self) -> None:
        """Everything that was started here, jobs too."""
        for one in self.started:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()
        processes.end(processes.of_service(self.instance.home))
        for job in self.dataflow.listed(filter="ACTIVE"):
            for process in _members(job["id"]):
                process.kill()
        assert self.dataflow.process is not None
        self.dataflow.process.kill()
        self.dataflow.process.wait()

    @cached_property
    def api(self) -> AirflowApi:
        return AirflowApi(self.instance.url("airflow"), "admin", self.instance.secrets.admin_password)

    def sql(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        session = self.snowflake.open()
        try:
            return session.rows(text, **parameters)
        finally:
            session.close()

    def run(self, dag_id: str, run_id: str, **conf: Any) -> str:
        """Triggers a run and waits for its end; returns its state."""
        until(lambda: self.api.trigger_once(dag_id, run_id, conf), f"{dag_id} is known")
        return str(
            until(
                lambda: state if (state := self.api.run(dag_id, run_id)["state"]) in ("success", "failed") else None,
                f"{dag_id} {run_id} ends",
            )
        )

    def _run(self, service: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{service}.log").open("ab") as log:
            started = subprocess.Popen(
                [str(self.instance.platform_python), "-m", "airflow", *command],
                env=self.env | {processes.MARK: service},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(started)
        return started

    def _is_ready(self) -> bool:
        try:
            return len(self.api.runs("fails")) >= 0
        except OSError:
            return False


def _members(job_id: str) -> list[Any]:
    from local.dataflow import process

    return process.members(job_id)
