"""Dataflow: launch a Beam Flex template so that a task may die at any moment and its job still runs exactly once.

The job's name is the key. Dataflow allows one active job of a name, so a retry looks the name up before it submits,
and a lost reply, a killed worker, scheduler or triggerer leads back to the same job.

Settings: MADHATTER_TEMPLATES, the URI below which the container specs lie (gs://bucket/templates; file:///... on a
laptop), and MADHATTER_LOCATION, the region of the jobs. The project comes from the connection.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from madhatter.jobs import SUCCEEDED, TERMINAL, PipelineEnded, job_link
from madhatter.settings import SettingError

if TYPE_CHECKING:
    from airflow.providers.google.cloud.hooks.dataflow import DataflowHook
    from airflow.sdk import Context

DEFAULT_LOCATION = "europe-west1"
JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
ENDING = {"JOB_STATE_CANCELLING", "JOB_STATE_DRAINING"}
# A job that is active but not listed: the list may be a little behind.
RIVAL_PATIENCE_S = 30


def check_job_name(name: str) -> str:
    """The name itself. Raises ValueError with a legal neighbour when Dataflow would refuse it."""
    if JOB_NAME.fullmatch(name):
        return name
    legal = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    hint = f"; for instance {legal!r}" if JOB_NAME.fullmatch(legal) else ""
    raise ValueError(
        f"{name!r} is no Dataflow job name: lower-case letters, digits and hyphens, first a letter, last no hyphen"
        f"{hint}. Correct job_name of this task."
    )


def template_uri(template: str) -> str:
    """Where a template's container spec is. Raises SettingError."""
    base = os.environ.get("MADHATTER_TEMPLATES")
    if not base:
        raise SettingError("MADHATTER_TEMPLATES is not set: give the URI of the folder of template specs")
    return f"{base.rstrip('/')}/{template}.json"


class LaunchPipeline(BaseOperator):
    """Run a Flex template to its end; waits in the triggerer.

    An active job of this name is attached to; one that is DONE is the result at once, nothing is submitted, unless
    `result_uri` is gone; after FAILED or CANCELLED a new job gets the name.

    A retry, a kill -9 or a restart of any Airflow process never ends the job. A person who clears or marks the waiting
    task does: then the trigger cancels the job, and the next try submits anew. A task that is killed before it waits
    leaves the job running for the next try.

    template: name of the container spec `<MADHATTER_TEMPLATES>/<template>.json`.
    parameters: of the template; numbers become text. labels: of the job.
    result_uri: a file that the job leaves at its end; remove it and the next try computes it again.
    project_id, location: by default the connection's project and MADHATTER_LOCATION.
    poll_s: longest pause between two looks at the job.
    patience_s: how long the API may be out of reach before the task fails.
    Returns {"job_id": ..., "job_name": ..., "state": ...}.
    Raises AirflowException with the job's last error message and its link; AirflowFailException when the job
    is done but left no `result_uri`, which the same job would do again.
    """

    template_fields: Sequence[str] = ("template", "job_name", "parameters", "result_uri", "project_id", "location")

    def __init__(
        self,
        *,
        template: str,
        job_name: str,
        parameters: dict[str, str | int | float],
        result_uri: str | None = None,
        labels: dict[str, str] | None = None,
        project_id: str | None = None,
        location: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        poll_s: float = 15,
        patience_s: float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.template = template
        self.job_name = job_name
        self.parameters = parameters
        self.result_uri = result_uri
        self.labels = labels or {}
        self.project_id = project_id
        self.location = location
        self.gcp_conn_id = gcp_conn_id
        self.poll_s = poll_s
        self.patience_s = patience_s

    def execute(self, context: Context) -> dict[str, str]:  # noqa: ARG002 - Airflow's signature
        check_job_name(self.job_name)
        hook = self._hook()
        self.project_id, self.location = self._place(hook)
        job = self._find_or_submit(hook)
        if job is None:
            self.log.info("%s is there already and no job is needed", self.result_uri)
            return self._result("", "JOB_STATE_DONE")
        # The reply to a launch has no state yet.
        state = job.get("currentState", "JOB_STATE_QUEUED")
        link = job_link(self.project_id, self.location, job["id"])
        self.log.info("Dataflow job %s is %s: %s", self.job_name, state, link)
        if state != "JOB_STATE_DONE":
            self.defer(
                trigger=PipelineEnded(
                    job_id=job["id"],
                    project_id=self.project_id,
                    location=self.location,
                    gcp_conn_id=self.gcp_conn_id,
                    poll_s=self.poll_s,
                    patience_s=self.patience_s,
                    was_ending=state in ENDING,
                ),
                method_name="execute_complete",
                timeout=self.execution_timeout,
            )
        return self._result(job["id"], state)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """After the wait. event: the trigger's."""
        if "error" in event:
            raise AirflowException(
                f"{event['error']} Job {self.job_name} may still run: a retry attaches to it. {event['link']}"
            )
        if event["was_ending"]:
            return self.execute(context)
        if event["state"] in SUCCEEDED:
            self._check_result(event)
            return self._result(event["job_id"], event["state"])
        raise AirflowException(
            f"Dataflow job {self.job_name} ({event['job_id']}) ended as {event['state']}; a retry submits it again. "
            f"{event['link']}\n{self._last_error(event)}"
        )

    def _hook(self) -> DataflowHook:
        from airflow.providers.google.cloud.hooks.dataflow import DataflowHook

        return DataflowHook(gcp_conn_id=self.gcp_conn_id)

    def _place(self, hook: DataflowHook) -> tuple[str, str]:
        """Project and location of the job."""
        project_id = self.project_id or hook.project_id
        if not project_id:
            raise ValueError(
                f"No project for job {self.job_name}: set `project` of connection {self.gcp_conn_id!r}, or project_id"
            )
        return project_id, self.location or os.environ.get("MADHATTER_LOCATION", DEFAULT_LOCATION)

    def _find_all(self, hook: DataflowHook) -> list[dict[str, Any]]:
        """All jobs of this name that the service still knows, the newest first."""
        jobs = hook.get_conn().projects().locations().jobs()
        request = jobs.list(projectId=self.project_id, location=self.location, name=self.job_name)
        found: list[dict[str, Any]] = []
        while request is not None:
            reply = request.execute(num_retries=hook.num_retries)
            found += reply.get("jobs", [])
            request = jobs.list_next(request, reply)
        return sorted(found, key=lambda job: str(job["createTime"]), reverse=True)

    def _find_or_submit(self, hook: DataflowHook) -> dict[str, Any] | None:
        """The active or finished job of this name, or a new one. None when there was none and its result is there all
        the same: the plan of an empty slice writes it."""
        from include import storage

        deadline = time.monotonic() + RIVAL_PATIENCE_S
        while True:
            job = next(iter(self._find_all(hook)), None)
            if job is not None and self._stands(job["currentState"]):
                return job
            if job is None and self.result_uri is not None and storage.exists(self.result_uri):
                return None
            if (job := self._submit(hook)) is not None:
                return job
            if time.monotonic() > deadline:
                raise AirflowException(
                    f"Dataflow says that a job named {self.job_name} is active in {self.location}, but does not list "
                    "it. Look for it in the console; a retry asks again."
                )
            time.sleep(1)

    def _stands(self, state: str) -> bool:
        """Whether a job in this state is the one to wait for or to take the result from."""
        from include import storage

        if state == "JOB_STATE_DONE":
            return self.result_uri is None or storage.exists(self.result_uri)
        return state not in TERMINAL

    def _submit(self, hook: DataflowHook) -> dict[str, Any] | None:
        """Launch the template. None when a job of this name is active: one that was submitted a moment ago."""
        from googleapiclient.errors import HttpError

        uri = template_uri(self.template)
        launch: dict[str, Any] = {
            "jobName": self.job_name,
            "containerSpecGcsPath": uri,
            "parameters": {name: str(value) for name, value in self.parameters.items()},
        }
        if self.labels:
            launch["environment"] = {"additionalUserLabels": self.labels}
        try:
            job: dict[str, Any] = hook.launch_job_with_flex_template(
                body={"launchParameter": launch}, location=self.location, project_id=self.project_id
            )
        except HttpError as error:
            if error.status_code == 409:
                return None
            text = f"Dataflow refused to launch {uri} as {self.job_name}: HTTP {error.status_code}, {error.reason}"
            # The same request would be refused again.
            raise (AirflowFailException if error.status_code == 400 else AirflowException)(text) from error
        self.log.info("Submitted %s as Dataflow job %s", uri, job["id"])
        return job

    def _result(self, job_id: str, state: str) -> dict[str, str]:
        return {"job_id": job_id, "job_name": self.job_name, "state": state}

    def _check_result(self, event: dict[str, Any]) -> None:
        from include import storage
        from madhatter.settings import settings

        if self.result_uri is None or storage.exists(self.result_uri):
            return
        storage.check_reachable(settings().store)
        raise AirflowFailException(
            f"Dataflow job {self.job_name} ({event['job_id']}) ended as {event['state']}, but left no "
            f"{self.result_uri}: its template {self.template} is at fault, or somebody removed the file. See the job's "
            f"messages, then clear this run from `{self.task_id}`: the job runs again. {event['link']}"
        )

    def _last_error(self, event: dict[str, Any]) -> str:
        hook = self._hook()
        try:
            messages = hook.get_conn().projects().locations().jobs().messages()
            request = messages.list(
                projectId=event["project_id"],
                location=event["location"],
                jobId=event["job_id"],
                minimumImportance="JOB_MESSAGE_ERROR",
            )
            texts: list[str] = []
            while request is not None:
                reply = request.execute(num_retries=hook.num_retries)
                texts += [message["messageText"] for message in reply.get("jobMessages", [])]
                request = messages.list_next(request, reply)
        except Exception as error:  # the job's failure must be told, whatever its messages do
            return f"Its messages could not be read: {error}"
        return texts[-1] if texts else "It left no error message."


class TransformLoad(LaunchPipeline):
    """Runs the pipeline over a `load` (a plan's result), whose id is the job's name, until its manifest is there."""

    template_fields: Sequence[str] = (*LaunchPipeline.template_fields, "load")

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        super().__init__(template="hourly", job_name="", parameters={}, **kwargs)
        self.load = load

    def execute(self, context: Context) -> dict[str, str]:
        self._take_load()
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        self._take_load()
        return super().execute_complete(context, event)

    def _take_load(self) -> None:
        self.job_name, self.parameters = self.load["load_id"], self.load["parameters"]
        self.result_uri = self.load["manifest_uri"]
