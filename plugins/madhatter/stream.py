"""The stream: exactly one Dataflow job `live`, of the right version, for as long as retail_stream runs.

What there is and what became of it is asked of Dataflow each time, so that nothing is lost with a task, a scheduler or
a triggerer: the name is the key (Dataflow allows one active job of it), the version is a label of the job, and how
often it failed in a row is counted in the list of its jobs. Minutes and signals are exact over a cancel, because a job
that starts reads again what the one before had not made final.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from madhatter.dataflow import ENDING, RIVAL_PATIENCE_S, LaunchPipeline, template_uri
from madhatter.jobs import TERMINAL, PipelineEnded, job_link
from madhatter.settings import settings

if TYPE_CHECKING:
    from airflow.providers.google.cloud.hooks.dataflow import DataflowHook
    from airflow.sdk import Context

NAME = "live"
VERSION = "madhatter-version"  # the job's label
RENEWED_AT = timedelta(hours=3)  # of the day, UTC: the day before is rolled up, and few customers are there
POLL_S = 2.0
VERSION_POLL_S = 30.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
STEADY = timedelta(minutes=10)  # a job that ran so long has not failed in a row with those before
SHORT_PAUSE_S = 15  # waited for in the worker: the way through the triggerer takes a third of it


@dataclass(frozen=True)
class Job:
    """A job as Dataflow knows it. version: its label, asked of active ones only. changed: when it got its state."""

    job_id: str
    state: str
    version: str
    created: datetime
    changed: datetime


@dataclass(frozen=True)
class Step:
    """What is to be done next. wait: job is the right one. replace: job is to be cancelled. end: job is ending already.
    pause: until then. failures: jobs that failed in a row."""

    kind: Literal["wait", "replace", "end", "pause", "launch", "give_up"]
    job: Job | None = None
    until: datetime | None = None
    failures: int = 0


def next_step(jobs: Sequence[Job], version: str, since: datetime, now: datetime, tries: int) -> Step:
    """The next step towards one active job of this version. jobs: of the name, the newest first. since: what failed
    before is forgotten; after so many tries in a row it gives up."""
    for job in jobs:
        if job.state in ENDING:
            return Step("end", job)
        if job.state not in TERMINAL:
            return Step("wait" if job.version == version else "replace", job)
    failures = 0
    for job in jobs:
        if job.state not in _FAILED or job.created < since or job.changed - job.created >= STEADY:
            break
        failures += 1
    if failures >= tries:
        return Step("give_up", jobs[0], failures=failures)
    if jobs and jobs[0].state in _FAILED and jobs[0].created >= since:
        until = jobs[0].changed + min(FIRST_PAUSE * 2 ** max(0, failures - 1), LONGEST_PAUSE)
        if until > now:
            return Step("pause", jobs[0], until, failures)
    return Step("launch", failures=failures)


# A streaming job has no end of its own: one that is done has failed too.
_FAILED = {"JOB_STATE_FAILED", "JOB_STATE_DONE"}


def version_of(template: bytes, parameters: dict[str, str], now: datetime) -> str:
    """What a job must have in common with the one that would be launched now: the template's container spec, the
    parameters, the day of its snapshot."""
    day = (now.astimezone(UTC) - RENEWED_AT).date().isoformat()
    text = json.dumps([hashlib.sha256(template).hexdigest(), sorted(parameters.items()), day])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class StreamWatch(PipelineEnded):
    """Fires when the job has ended, or when another version is due: a new day, or another template at template_uri.

    parameters, version: of the job."""

    def __init__(self, *, template_uri: str, parameters: dict[str, str], version: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.template_uri = template_uri
        self.parameters = parameters
        self.version = version
        self._looked = float("-inf")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        path, kwargs = super().serialize()
        own = {"template_uri": self.template_uri, "parameters": self.parameters, "version": self.version}
        return path, kwargs | own

    async def _reason_to_stop(self) -> str:
        import asyncio

        if time.monotonic() - self._looked < VERSION_POLL_S:
            return ""
        self._looked = time.monotonic()
        try:
            due = await asyncio.to_thread(self._due)
        except (OSError, ValueError) as error:
            self.log.warning("the template cannot be read, the job goes on: %s", error)
            return ""
        return "" if due == self.version else f"version {due} is due instead of {self.version}"

    def _due(self) -> str:
        from include import storage

        return version_of(storage.read_bytes(self.template_uri), self.parameters, datetime.now(UTC))


class KeepStream(LaunchPipeline):
    """Adopts the running job `live` of the right version, or launches it in place of another one; waits in the
    triggerer until another version is due. A job that failed is launched again, after 5 s, 10 s and so on up to 5 min;
    after MADHATTER_STREAM_TRIES in a row the task fails for good.

    Ends when another version is due; the run that follows replaces the job. A person who clears or marks the waiting
    task ends the job, as with LaunchPipeline."""

    template_fields: Sequence[str] = ("project_id", "location")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(template=NAME, job_name=NAME, parameters={}, poll_s=POLL_S, **kwargs)
        self._taken = ""  # a snapshot for the next launch

    def execute(self, context: Context) -> dict[str, str]:
        from include import storage

        if not settings().stream:
            raise AirflowFailException("MADHATTER_STREAM=off: no streaming job is launched here")
        since = context["dag_run"].start_date
        hook = self._hook()
        self.project_id, self.location = self._place(hook)
        fixed = self._fixed_parameters()
        deadline = time.monotonic() + RIVAL_PATIENCE_S
        while True:
            now = datetime.now(UTC)
            version = version_of(storage.read_bytes(template_uri(self.template)), fixed, now)
            step = next_step(self._known(hook), version, since or now, now, settings().stream_tries)
            if step.kind == "give_up":
                assert step.job is not None
                raise AirflowFailException(self._gave_up(step.job.job_id, step.failures))
            if step.kind == "pause":
                assert step.until is not None
                self._pause(context, step.until, step.failures)
            elif step.kind == "launch":
                job_id = self._launch(hook, context, fixed, version)
                if job_id is not None:
                    self._wait(hook, Step("wait", Job(job_id, "JOB_STATE_QUEUED", version, now, now)), fixed)
                if time.monotonic() > deadline:
                    raise AirflowException(f"Dataflow says that a job {NAME} is active, but does not list it")
                time.sleep(1)
            else:
                assert step.job is not None
                self._wait(hook, step, fixed)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """After a wait: what is to be done next. event: the trigger's."""
        if "error" in event:
            raise AirflowException(
                f"{event['error']} Job {NAME} may still run: a retry attaches to it. {event['link']}"
            )
        if "stop" in event:
            self.log.info("%s: the next run replaces job %s", event["stop"], event["job_id"])
            return self._result(event["job_id"], "JOB_STATE_RUNNING")
        self.log.warning("job %s ended as %s: %s", event["job_id"], event["state"], event["link"])
        return self.execute(context)

    def paused(self, context: Context, event: Any = None) -> dict[str, str]:  # noqa: ARG002 - the trigger's
        """After a pause."""
        return self.execute(context)

    def _fixed_parameters(self) -> dict[str, str]:
        """The parameters that make another job of it when they change; not the snapshot, which is new each time."""
        from madhatter import kafka

        bootstrap = str(kafka.client_settings()["bootstrap.servers"])
        return {"bootstrap_servers": bootstrap, "store": settings().store, "project": str(self.project_id)}

    def _known(self, hook: DataflowHook) -> list[Job]:
        """All jobs `live`, the newest first."""
        found = []
        for job in self._find_all(hook):
            labels: dict[str, str] = {}
            if job["currentState"] not in TERMINAL:
                # A list need not have labels.
                jobs = hook.get_conn().projects().locations().jobs()
                place = {"projectId": self.project_id, "location": self.location, "jobId": job["id"]}
                job = jobs.get(**place, view="JOB_VIEW_ALL").execute(num_retries=hook.num_retries)
                labels = job.get("labels", {})
            times = (datetime.fromisoformat(job[name]) for name in ("createTime", "currentStateTime"))
            found.append(Job(job["id"], job["currentState"], labels.get(VERSION, ""), *times))
        return found

    def _launch(self, hook: DataflowHook, context: Context, fixed: dict[str, str], version: str) -> str | None:
        """Launches the job and returns its id; None when one is active that was not listed yet."""
        self._taken = self._taken or self._snapshot(context)  # asked again, it is not taken again
        self.parameters = {**fixed, "snapshot": self._taken}
        self.labels = {VERSION: version}
        job = self._submit(hook)
        return None if job is None else str(job["id"])

    def _snapshot(self, context: Context) -> str:
        """A new snapshot's URI; the newest one's when the warehouse is away: an older snapshot is better than none, and
        much better than no stream."""
        from snowflake.connector.errors import Error

        from madhatter import snapshot, warehouse

        store = settings().store
        try:
            with warehouse.session(context) as session:
                return snapshot.take(session, store, datetime.now(UTC))
        except (warehouse.WarehouseDown, Error) as error:
            found = snapshot.newest(store)
            if found is None:
                raise
            self.log.warning("the job begins with the old snapshot %s: %s", found, error)
            return found

    def _wait(self, hook: DataflowHook, step: Step, fixed: dict[str, str]) -> None:
        """Leaves the worker until the job has ended or is of the wrong version."""
        assert step.job is not None
        assert self.project_id
        assert self.location
        job = step.job
        self.log.info("%s: job %s is %s; %s", step.kind, job.job_id, job.state, self._link(job.job_id))
        if step.kind == "replace":
            self._cancel(hook, job.job_id)
        kwargs: dict[str, Any] = {
            "job_id": job.job_id,
            "project_id": self.project_id,
            "location": self.location,
            "gcp_conn_id": self.gcp_conn_id,
            "poll_s": self.poll_s,
            "patience_s": self.patience_s,
            "was_ending": step.kind != "wait",
        }
        if step.kind == "wait":
            uri = template_uri(self.template)
            trigger: PipelineEnded = StreamWatch(template_uri=uri, parameters=fixed, version=job.version, **kwargs)
        else:
            trigger = PipelineEnded(**kwargs)
        self.defer(trigger=trigger, method_name="execute_complete")

    def _cancel(self, hook: DataflowHook, job_id: str) -> None:
        """Asks for the job's end; one that has ended meanwhile is fine."""
        from googleapiclient.errors import HttpError

        jobs = hook.get_conn().projects().locations().jobs()
        place = {"projectId": self.project_id, "location": self.location, "jobId": job_id}
        try:
            jobs.update(**place, body={"requestedState": "JOB_STATE_CANCELLED"}).execute(num_retries=hook.num_retries)
        except HttpError as error:
            if error.status_code != 400:
                raise
            self.log.info("job %s is not to be cancelled: %s", job_id, error.reason)

    def _pause(self, context: Context, until: datetime, failures: int) -> None:
        """A short one in the worker, where the snapshot is taken meanwhile; a long one in the triggerer."""
        left_s = (until - datetime.now(UTC)).total_seconds()
        self.log.warning("%s jobs %s have failed in a row: the next one in %.0f s", failures, NAME, max(0, left_s))
        if left_s <= SHORT_PAUSE_S:
            self._taken = self._snapshot(context)
            time.sleep(max(0, (until - datetime.now(UTC)).total_seconds()))
            return
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        self.defer(trigger=DateTimeTrigger(moment=until), method_name="paused")

    def _gave_up(self, job_id: str, failures: int) -> str:
        event = {"project_id": self.project_id, "location": self.location, "job_id": job_id}
        return (
            f"{failures} jobs {NAME} failed in a row, and no other one is launched: there are no live figures and no "
            f"signals until somebody mends the cause and unpauses retail_stream. {self._link(job_id)}\n"
            f"{self._last_error(event)}"
        )

    def _link(self, job_id: str) -> str:
        return job_link(str(self.project_id), str(self.location), job_id)
