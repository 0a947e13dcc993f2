"""A Dataflow job that was launched: its states, its page, the wait in the triggerer for its end.

Setting: MADHATTER_JOB_LINK, where a person looks at a job; by default the Google Cloud console.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from madhatter.settings import SettingError

DEFAULT_JOB_LINK = "https://console.cloud.google.com/dataflow/jobs/{location}/{job_id}?project={project_id}"
SUCCEEDED = {"JOB_STATE_DONE", "JOB_STATE_DRAINED", "JOB_STATE_UPDATED"}
TERMINAL = SUCCEEDED | {"JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}
RPC_TIMEOUT_S = 30
# A job just launched may be unknown to a replica of the service; a job that stays unknown is gone.
NOT_FOUND_PATIENCE_S = 60


def job_link(project_id: str, location: str, job_id: str) -> str:
    """The job's page. Raises SettingError when MADHATTER_JOB_LINK cannot be filled in."""
    form = os.environ.get("MADHATTER_JOB_LINK", DEFAULT_JOB_LINK)
    try:
        return form.format(project_id=project_id, location=location, job_id=job_id)
    except (LookupError, ValueError) as error:
        raise SettingError(
            f"MADHATTER_JOB_LINK={form!r} may hold {{project_id}}, {{location}} and {{job_id}}, not {error}"
        ) from error


class PipelineEnded(BaseTrigger):
    """Fires once when a job has reached any of its end states, or when the API was out of reach for patience_s.

    was_ending: the job was already being cancelled or drained when the wait began.
    Event: {"job_id", "project_id", "location", "link", "was_ending"} with either "state" or "error" (a sentence), or
    "stop" (a sentence) where a subclass knows one.
    """

    def __init__(
        self,
        job_id: str,
        project_id: str,
        location: str,
        gcp_conn_id: str,
        poll_s: float,
        patience_s: float,
        was_ending: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.project_id = project_id
        self.location = location
        self.gcp_conn_id = gcp_conn_id
        self.poll_s = poll_s
        self.patience_s = patience_s
        self.was_ending = was_ending

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("job_id", "project_id", "location", "gcp_conn_id", "poll_s", "patience_s", "was_ending")
        own = type(self)
        return f"{own.__module__}.{own.__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError, ServerError, TooManyRequests

        started = answered = time.monotonic()
        async with await self._client() as client:
            while True:
                try:
                    state = await self._state(client)
                except (GoogleAPICallError, RetryError) as error:
                    patience_s = self.patience_s if isinstance(error, ServerError | TooManyRequests | RetryError) else 0
                    if isinstance(error, NotFound):
                        patience_s = min(self.patience_s, NOT_FOUND_PATIENCE_S)
                    if time.monotonic() - answered >= patience_s:
                        yield self._event(error=f"Dataflow gives no answer on job {self.job_id}: {error}.")
                        return
                    self.log.warning("Dataflow does not answer on job %s, asking again: %s", self.job_id, error)
                else:
                    answered = time.monotonic()
                    if state in TERMINAL:
                        yield self._event(state=state)
                        return
                    if reason := await self._reason_to_stop():
                        yield self._event(stop=reason)
                        return
                # Short jobs are noticed soon, long ones cost few calls.
                await asyncio.sleep(min(max(0.5, (time.monotonic() - started) / 10), self.poll_s))

    async def on_kill(self) -> None:
        """Cancel the job after a person cleared or marked the waiting task.

        Airflow also comes here when this triggerer lost the trigger to another one: the task still waits, the job goes
        on. So it does when a cleared task is quick and waits for the job again before this looks: clear it once more.
        """
        from asgiref.sync import sync_to_async

        if await sync_to_async(self._task_still_waits)():
            self.log.info("The task waits for Dataflow job %s again: the job goes on.", self.job_id)
            return
        await sync_to_async(self._cancel)()
        self.log.info("Requested the cancellation of Dataflow job %s.", self.job_id)

    async def _reason_to_stop(self) -> str:
        """A sentence when the wait is over although the job goes on; asked at each look."""
        return ""

    async def _client(self) -> Any:
        """One client for the whole wait: the hook's own calls open a new channel each."""
        from asgiref.sync import sync_to_async

        # The import takes half a second: not in the triggerer's event loop.
        hook_class, client_class = await sync_to_async(_import_clients)()
        return await hook_class(gcp_conn_id=self.gcp_conn_id).initialize_client(client_class)

    async def _state(self, client: Any) -> str:
        request = {"project_id": self.project_id, "location": self.location, "job_id": self.job_id}
        job = await client.get_job(request=request, timeout=RPC_TIMEOUT_S)
        return str(job.current_state.name)

    def _event(self, **outcome: str) -> TriggerEvent:
        place = {"job_id": self.job_id, "project_id": self.project_id, "location": self.location}
        link = job_link(self.project_id, self.location, self.job_id)
        return TriggerEvent({**place, "link": link, "was_ending": self.was_ending, **outcome})  # type: ignore[no-untyped-call]

    def _task_still_waits(self) -> bool:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        task = self.task_instance
        if task is None:
            return False
        states = RuntimeTaskInstance.get_task_states(
            dag_id=task.dag_id, run_ids=[task.run_id], task_ids=[task.task_id], map_index=task.map_index
        )
        return "deferred" in states.get(task.run_id, {}).values()

    def _cancel(self) -> None:
        from airflow.providers.google.cloud.hooks.dataflow import DataflowHook

        hook = DataflowHook(gcp_conn_id=self.gcp_conn_id, cancel_timeout=None)
        hook.cancel_job(job_id=self.job_id, project_id=self.project_id, location=self.location)


def _import_clients() -> tuple[Any, Any]:
    from airflow.providers.google.cloud.hooks.dataflow import AsyncDataflowHook
    from google.cloud.dataflow_v1beta3 import JobsV1Beta3AsyncClient

    return AsyncDataflowHook, JobsV1Beta3AsyncClient
