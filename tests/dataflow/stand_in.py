"""A Dataflow stand-in on free ports, seen through Google's own clients."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = {"projectId": "madhatter", "location": "europe-west1"}
DEADLINE_S = 180
T = TypeVar("T")


def until(look: Callable[[], T], what: str) -> T:
    """The first true answer of look."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain until {what}"
        time.sleep(0.02)
    return answer


@dataclass
class Server:
    """One stand-in with its state folder; may be killed and started again on the same ports."""

    state: Path
    port: int
    grpc_port: int
    process: subprocess.Popen[bytes] | None = None
    images: Path = HERE / "images.toml"
    env: dict[str, str] | None = None

    def start(self) -> None:
        self.process = self.spawn()
        until(self._answers, f"the server answers; its log is {self.state}.log")

    def spawn(self) -> subprocess.Popen[bytes]:
        ports = ["--port", str(self.port), "--grpc-port", str(self.grpc_port)]
        places = ["--state", str(self.state), "--images", str(self.images)]
        with Path(f"{self.state}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "local.dataflow", *ports, *places],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env=self.env,
            )

    def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, Path(f"{self.state}.log").read_text()
        with socket.socket() as one, socket.socket() as other:
            return one.connect_ex(("127.0.0.1", self.port)) == 0 == other.connect_ex(("127.0.0.1", self.grpc_port))

    @property
    def jobs(self) -> Any:
        """projects().locations() of Google's discovery client."""
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        options = ClientOptions(api_endpoint=f"http://127.0.0.1:{self.port}")
        client = build("dataflow", "v1b3", credentials=credentials, client_options=options)
        return client.projects().locations()

    def rpc(self, client: type[Any]) -> Any:
        """A gRPC client: JobsV1Beta3Client, MessagesV1Beta3Client or MetricsV1Beta3Client."""
        channel = grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}")
        return client(transport=client.get_transport_class("grpc")(channel=channel))

    def launch(self, name: str, template: str | Path = "batch", **parameters: str | Path) -> str:
        """Launch a test pipeline, or that of a container spec; returns its job's id."""
        spec = template if isinstance(template, Path) else HERE / f"{template}.json"
        launch = {
            "jobName": name,
            "containerSpecGcsPath": spec.as_uri(),
            "parameters": {key: str(value) for key, value in parameters.items()},
        }
        reply = self.jobs.flexTemplates().launch(**PLACE, body={"launchParameter": launch}).execute()
        return str(reply["job"]["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.jobs.jobs().get(**PLACE, jobId=job_id).execute())

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        return list(self.jobs.jobs().list(**PLACE, **query).execute().get("jobs", []))

    def end_state(self, job_id: str) -> str:
        """The state in which the job ends, such as DONE."""
        name = "JOB_STATE_(DONE|FAILED|CANCELLED|DRAINED)"
        ended = until(lambda: re.fullmatch(name, self.job(job_id)["currentState"]), f"job {job_id} ends")
        assert ended is not None
        return ended[1]

    def error(self, job_id: str) -> str:
        """The job's last error message."""
        request = self.jobs.jobs().messages().list(**PLACE, jobId=job_id, minimumImportance="JOB_MESSAGE_ERROR")
        return str(request.execute()["jobMessages"][-1]["messageText"])

    def record(self, job_id: str) -> dict[str, Any]:
        """What the server keeps of a job."""
        return dict(json.loads((self.state / "jobs" / job_id / "job.json").read_text()))
