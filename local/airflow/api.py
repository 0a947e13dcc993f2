"""Airflow's REST API as `make up` and the tests use it: trigger, look, unpause."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

# SQLite under the API refuses a write while the scheduler writes.
RETRIES = 20
TIMEOUTS = 3  # of 30 s each


@dataclass(frozen=True)
class Failure:
    """A try that failed: its number, from 1, the line that says why, and the log's file."""

    task_id: str
    number: int
    is_retried: bool
    error: str
    log: str


class AirflowApi:
    """Calls to one Airflow, as one user."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._token = ""
        self._token = self._call("POST", "/auth/token", {"username": user, "password": password})["access_token"]

    def trigger_once(self, dag_id: str, run_id: str, conf: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The run with this id, triggered now with conf if there is none; None while Airflow does not know the DAG."""
        try:
            body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
            made: dict[str, Any] = self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
            return made
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code == 409:
                return self.run(dag_id, run_id)
            raise

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """A run with its `state`."""
        found: dict[str, Any] = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}")
        return found

    def knows(self, dag_id: str, run_id: str) -> bool:
        """Whether there is a run with this id."""
        try:
            self.run(dag_id, run_id)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise
        return True

    def runs(self, dag_id: str = "~", **filters: str) -> list[dict[str, Any]]:
        """Runs of a DAG, or of all; filters as the API names them, such as state."""
        text = urllib.parse.urlencode({"limit": 500, **filters})
        found: list[dict[str, Any]] = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{text}")["dag_runs"]
        return found

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Task instances of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances"
        found: list[dict[str, Any]] = self._call("GET", path)["task_instances"]
        return found

    def active_tasks(self, dag_id: str, run_id: str) -> list[str]:
        """Names of the tasks that run, wait in the triggerer or are about to."""
        states = ("running", "deferred", "queued", "up_for_retry")
        return [f"{t['task_id']} {t['state']}" for t in self.tasks(dag_id, run_id) if t["state"] in states]

    def failures(self, dag_id: str, run_id: str) -> list[Failure]:
        """The tasks whose last try failed, whether another one follows or not."""
        states = {"failed": False, "up_for_retry": True}
        return [
            self._failure(dag_id, run_id, t, states[t["state"]])
            for t in self.tasks(dag_id, run_id)
            if t["state"] in states
        ]

    def _failure(self, dag_id: str, run_id: str, task: dict[str, Any], is_retried: bool) -> Failure:
        """What the log of a try says last of an exception, else its last error, and where the log is."""
        task_id, number = task["task_id"], task["try_number"]
        path = f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances/{task_id}/logs/{number}"
        which = f"full_content=true&map_index={task['map_index']}"
        lines = self._call("GET", f"{path}?{which}")["content"]
        logs = [line["event"] for line in lines if isinstance(line, dict) and line["event"].endswith(".log")]
        errors = [line for line in lines if isinstance(line, dict) and line.get("level") in ("error", "critical")]
        raised = [detail for line in errors for detail in (line.get("error_detail") or [])[:1]]
        if raised:
            words = f"{raised[-1]['exc_type']}: {raised[-1]['exc_value']}"
        else:
            words = errors[-1]["event"] if errors else "its log holds no error: the process was ended from outside"
        return Failure(task_id, number, is_retried, " ".join(words.split()), logs[0] if logs else "the Airflow UI")

    def import_errors(self) -> list[str]:
        """What is wrong with DAG files: `file: last line of the error`."""
        found = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in found]

    def announce(self, asset: str, partition_key: str) -> None:
        """Emits an event of an asset's partition, as a task with that outlet does."""
        found = self._call("GET", f"/api/v2/assets?name_pattern={asset}")["assets"]
        body = {"asset_id": next(a["id"] for a in found if a["name"] == asset), "partition_key": partition_key}
        self._call("POST", "/api/v2/assets/events", body)

    def pause(self, dag_id: str) -> None:
        """Keeps a DAG from being scheduled; asset events that come meanwhile are lost to it."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})

    def is_paused(self, dag_id: str) -> bool:
        """Whether a DAG is kept from being scheduled."""
        return bool(self._call("GET", f"/api/v2/dags/{dag_id}")["is_paused"])

    def unpause(self, dag_id: str) -> None:
        """Lets a DAG be scheduled."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """One call; a 500 is tried again for some seconds, and so is one without an answer: each may come twice. Raises
        HTTPError, TimeoutError."""
        for attempt in range(RETRIES):
            request = urllib.request.Request(
                f"{self.url}{path}",
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
            )
            try:
                with self._opener.open(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code < 500 or attempt == RETRIES - 1:
                    raise
            except TimeoutError:
                if attempt >= TIMEOUTS:
                    raise
            time.sleep(0.5)
        raise AssertionError("unreachable")
