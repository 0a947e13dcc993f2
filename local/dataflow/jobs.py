"""The jobs of this machine, each a folder: job.json, log, exit. They outlive the server; a later one adopts them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.dataflow import process
from local.dataflow.errors import ApiError
from local.dataflow.failure import explain
from local.dataflow.templates import Image, Template, filled
from local.prism import PrismMissing

ROOT = Path(__file__).resolve().parents[2]
TERMINAL = {f"JOB_STATE_{state}" for state in ("DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED")}
# The order of importance; the enum's numbers are in another one.
SEVERITIES = [f"JOB_MESSAGE_{name}" for name in ("DEBUG", "DETAILED", "BASIC", "WARNING", "ERROR")]
# The rule of the API's Job.name.
JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
CANCEL_GRACE_S = 10
STOP_GRACE_S = 4
POLL_S = 0.1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace() -> str:
    """The mark before the service's messages."""
    return f"({uuid.uuid4().hex[:16]})"


@dataclass
class Job:
    """A job. api: the resource as REST returns it; messages: its JobMessages; pid, started_ts: its wrapper process."""

    api: dict[str, Any]
    command: list[str]
    env: dict[str, str]
    messages: list[dict[str, str]] = field(default_factory=list)
    pid: int | None = None
    started_ts: float | None = None
    is_interrupted: bool = False

    @property
    def id(self) -> str:
        return str(self.api["id"])

    @property
    def state(self) -> str:
        return str(self.api["currentState"])

    @property
    def is_active(self) -> bool:
        return self.state not in TERMINAL

    def enter(self, state: str) -> None:
        self.api.update(currentState=f"JOB_STATE_{state}", currentStateTime=_now())
        self.say("BASIC", f"The job is {state.lower()}.")

    def say(self, severity: str, text: str) -> None:
        message = {"id": f"{self.id}-{len(self.messages)}", "time": _now(), "messageText": text}
        self.messages.append({**message, "messageImportance": f"JOB_MESSAGE_{severity}"})


class Jobs:
    """All jobs under one state folder. keep: so many ended jobs stay known, older ones go with their logs."""

    def __init__(self, state: Path, keep: int = 500) -> None:
        self._folder = state / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._kill_at: dict[str, float] = {}
        self._launched = asyncio.Event()
        self._jobs: dict[str, Job] = {}

    # What the API asks for.

    def launch(
        self,
        project: str,
        location: str,
        name: str,
        template: Template,
        image: Image,
        parameters: dict[str, str],
        labels: dict[str, str] | None = None,
    ) -> Job:
        """Create a job and start its pipeline. Raises ApiError ALREADY_EXISTS while a job of that name is active."""
        if not JOB_NAME.fullmatch(name):
            raise ApiError("INVALID_ARGUMENT", f"Invalid job name {name!r}: it must match {JOB_NAME.pattern}")
        template.check(parameters)
        if self.find(project, location, "ACTIVE", name):
            raise ApiError(
                "ALREADY_EXISTS",
                f"{_trace()}: There is already an active job named {name}. "
                "If you want to  submit a second job, try again by setting a different name.",
            )
        options = [f"--{key}={value}" for key, value in parameters.items()] + image.options + [f"--job_name={name}"]
        stamp = datetime.now().strftime("%Y-%m-%d_%H_%M_%S")
        api = {
            "id": f"{stamp}-{uuid.uuid4().int % 10**19:019}",
            "projectId": project,
            "name": name,
            "location": location,
            "type": "JOB_TYPE_STREAMING" if template.is_streaming else "JOB_TYPE_BATCH",
            "createTime": _now(),
            "startTime": _now(),
            "labels": labels or {},
        }
        job = Job(api=api, command=[sys.executable, "-m", image.module, *options], env=image.env)
        job.enter("QUEUED")
        self._folder_of(job).mkdir()
        self._jobs[job.id] = job
        self._save(job)
        self._start(job)
        return job

    def get(self, project: str, location: str, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or (job.api["projectId"], job.api["location"]) != (project, location):
            raise ApiError("NOT_FOUND", f"{_trace()}: Information about job {job_id} could not be found in our system.")
        return job

    def find(self, project: str, location: str, which: str = "ALL", name: str = "") -> list[Job]:
        """Jobs of a location, the newest first. which: ALL, ACTIVE or TERMINATED; name: the exact name."""
        found = [
            job
            for job in self._jobs.values()
            if (job.api["projectId"], job.api["location"]) == (project, location)
            and (not name or job.api["name"] == name)
            and (which not in ("ACTIVE", "TERMINATED") or job.is_active == (which == "ACTIVE"))
        ]
        return sorted(found, key=lambda job: (job.api["createTime"], job.id), reverse=True)

    def messages(self, job: Job, least: str = "") -> list[dict[str, str]]:
        """The job's messages at least so important."""
        rank = SEVERITIES.index(least) if least in SEVERITIES else 0
        return [message for message in job.messages if SEVERITIES.index(message["messageImportance"]) >= rank]

    def request(self, job: Job, state: str) -> None:
        """Cancel or drain. state: JOB_STATE_CANCELLED or JOB_STATE_DRAINED. Raises ApiError where that cannot be."""
        if state not in ("JOB_STATE_CANCELLED", "JOB_STATE_DRAINED"):
            raise ApiError("INVALID_ARGUMENT", f"Cannot request {state}: give JOB_STATE_CANCELLED or JOB_STATE_DRAINED")
        is_drain = state == "JOB_STATE_DRAINED"
        refused = f"Workflow modification failed. Causes: {_trace()}: Operation not allowed for job {job.id}. "
        if not job.is_active:
            raise ApiError("FAILED_PRECONDITION", f"{refused}Job is already in terminal state {job.state}.")
        if is_drain and job.api["type"] != "JOB_TYPE_STREAMING":
            raise ApiError("FAILED_PRECONDITION", f"{refused}Only streaming jobs can be drained.")
        job.api["requestedState"] = state
        if is_drain:
            job.enter("DRAINING")
        elif job.state != "JOB_STATE_CANCELLING":
            job.enter("CANCELLING")
        self._save(job)
        if not is_drain:
            self._kill_at[job.id] = time.monotonic() + CANCEL_GRACE_S
        process.send(job.id, signal.SIGUSR1 if is_drain else signal.SIGTERM, but=job.pid)

    # Their life.

    def recover(self) -> None:
        """Learn the jobs of earlier servers: adopt what runs, note what ended, start again what a stop interrupted."""
        for folder in sorted(self._folder.iterdir()):
            try:
                job = Job(**json.loads((folder / "job.json").read_text()))
            except (FileNotFoundError, ValueError, TypeError) as error:
                # Its launch was never answered, the machine lost power, or another version wrote it: the name is free.
                print(f"dataflow: forgets {folder}, its job.json cannot be read: {error}", flush=True)
                shutil.rmtree(folder)
                continue
            self._jobs[job.id] = job
            if not job.is_active:
                continue
            if job.pid is None:
                self._adopt_unrecorded(job)
            if job.pid is None or (job.is_interrupted and process.exit_code(folder) != 0):
                (folder / "exit").unlink(missing_ok=True)
                self._start(job)
            elif job.state == "JOB_STATE_CANCELLING":
                self._kill_at[job.id] = time.monotonic() + CANCEL_GRACE_S
        self._launched.set()

    async def watch(self) -> None:
        """Follow the active jobs to their ends, for ever."""
        while True:
            active = [job for job in self._jobs.values() if job.is_active]
            if not active:
                await self._launched.wait()
            self._launched.clear()
            for job in active:
                self._check(job)
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """End all processes; their jobs start again with the next server."""
        active = [job for job in self._jobs.values() if job.is_active]
        for job in active:
            job.is_interrupted = job.state not in ("JOB_STATE_CANCELLING", "JOB_STATE_DRAINING")
            self._save(job)
            process.send(job.id, signal.SIGTERM, but=job.pid)
        deadline = time.monotonic() + STOP_GRACE_S
        while any(self._is_running(job) for job in active) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        for job in active:
            process.send(job.id, signal.SIGKILL)

    def _start(self, job: Job) -> None:
        try:
            command = filled(job.command)
        except PrismMissing as error:
            job.pid, job.started_ts = 0, 0.0
            job.say("ERROR", str(error))
            job.enter("FAILED")
            self._save(job)
            return
        child = process.start(job.id, self._folder_of(job), command, job.env, ROOT)
        self._children[job.id] = child
        job.pid, job.started_ts = child.pid, process.start_ts(child.pid) or time.time()
        job.is_interrupted = False
        job.enter("RUNNING")
        self._save(job)
        self._launched.set()

    def _adopt_unrecorded(self, job: Job) -> None:
        """A server that was killed right after a start left no pid: the oldest process of the job is the wrapper."""
        members = sorted(process.members(job.id), key=lambda member: member.create_time())
        if members:
            job.pid, job.started_ts = members[0].pid, members[0].create_time()
            job.enter("RUNNING")
            self._save(job)
        elif process.exit_code(self._folder_of(job)) is not None:
            job.pid, job.started_ts = 0, 0.0

    def _is_running(self, job: Job) -> bool:
        if child := self._children.get(job.id):
            return child.poll() is None
        return bool(job.pid) and process.is_alive(job.pid or 0, job.started_ts or 0.0)

    def _check(self, job: Job) -> None:
        folder = self._folder_of(job)
        if self._is_running(job):
            if time.monotonic() > self._kill_at.get(job.id, float("inf")):
                process.send(job.id, signal.SIGKILL, but=job.pid)
            process.bound_log(folder)
            return
        process.send(job.id, signal.SIGKILL)  # what the pipeline left behind, or all of it where the wrapper was killed
        code = process.exit_code(folder)
        if job.state == "JOB_STATE_CANCELLING":
            job.enter("CANCELLED")
        elif job.state == "JOB_STATE_DRAINING":
            job.enter("DRAINED")
        elif code == 0:
            job.enter("DONE")
        else:
            job.say("ERROR", explain(folder / "log", code))
            job.enter("FAILED")
        self._save(job)
        self._children.pop(job.id, None)
        self._kill_at.pop(job.id, None)
        self._prune()

    def _prune(self) -> None:
        ended = [job for job in self._jobs.values() if not job.is_active]
        ended.sort(key=lambda job: str(job.api["currentStateTime"]))
        for job in ended[: max(0, len(ended) - self._keep)]:
            shutil.rmtree(self._folder_of(job), ignore_errors=True)
            del self._jobs[job.id]

    def _folder_of(self, job: Job) -> Path:
        return self._folder / job.id

    def _save(self, job: Job) -> None:
        part = self._folder_of(job) / "job.json.part"
        part.write_text(json.dumps(asdict(job), indent=1))
        part.replace(part.with_suffix(""))
