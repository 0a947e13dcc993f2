"""What goes wrong on purpose: each fault is one function of a running system, and says whether it really happened."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local import processes
from tests.chaos.proxy import Proxy
from tests.platform import Platform

PAUSE_S = 20
HOLD_S = 8
FULL_S = 10
TASK = re.compile("airflow worker -- [0-9a-f]{8}-")
PATIENCE_S = 180  # for what must be there to be harmed: a run, a task, a job


@dataclass
class Target:
    """The system under test. disks: mount points of small file systems. chance: of one fault, so that the others'
    timing does not move its dice."""

    platform: Platform
    kafka: Proxy
    warehouse: Proxy
    disks: list[Path]
    chance: random.Random

    def job_processes(self) -> list[psutil.Process]:
        """The pipelines that run now."""
        return [p for p in self._all() if "include.beam" in " ".join(_command(p)[:4])]

    def task_processes(self) -> list[psutil.Process]:
        """The Airflow tasks that run now. The executor's idle workers look alike, but hold a lock and no task."""
        return [p for p in self._all() if TASK.match(" ".join(_command(p)[:1]))]

    def service(self, name: str) -> list[psutil.Process]:
        """A service's processes."""
        return processes.of_service(self.platform.instance.home, name)

    def _all(self) -> list[psutil.Process]:
        return processes.of_service(self.platform.instance.home)

    def hourly_run(self) -> dict[str, Any] | None:
        """A run of retail_hourly that is on its way."""
        runs = self.platform.api.runs("retail_hourly", state="running")
        return self.chance.choice(runs) if runs else None

    def call(self, method: str, path: str, body: Any) -> Any:
        """One call of Airflow's API."""
        return self.platform.api._call(method, path, body)


Fault = Callable[[Target], bool]


def kill_service(name: str) -> Fault:
    """kill -9 of a service's own process."""

    def kill(target: Target) -> bool:
        pid = target.platform.pid(name)
        return bool(pid) and _signal(psutil.Process(pid), signal.SIGKILL)

    return kill


def kill_job(target: Target) -> bool:
    """kill -9 of a pipeline's processes."""
    return _signal_all(_soon(target.job_processes), signal.SIGKILL) > 0


def kill_task(target: Target) -> bool:
    """kill -9 of one running task."""
    found = _soon(target.task_processes)
    return bool(found) and _signal(target.chance.choice(found), signal.SIGKILL)


def pause(target: Target) -> bool:
    """SIGSTOP for 20 s of a service or of a pipeline."""
    name = target.chance.choice(["kafka", "warehouse", "dataflow", "airflow-scheduler", "airflow-triggerer", "job"])
    found = _soon(target.job_processes) if name == "job" else target.service(name)
    if name == "dataflow":
        found = [p for p in found if p not in target.job_processes()]
    if not _signal_all(found, signal.SIGSTOP):
        return False
    time.sleep(PAUSE_S)
    _signal_all(found, signal.SIGCONT)
    return True


def fill_disk(target: Target) -> bool:
    """Not a byte left on a disk for a while."""
    disk = target.chance.choice(target.disks)
    ballast = disk / "ballast"
    is_full = False
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            until = time.monotonic() + FULL_S
            block = bytes(1 << 20)
            while time.monotonic() < until:
                try:
                    file.write(block)
                except OSError:
                    is_full, block = True, bytes(4096)
                    time.sleep(0.05)
    finally:
        ballast.unlink(missing_ok=True)
    return is_full


def drop_connections(target: Target) -> bool:
    """All connections are reset, and none is let in for a while."""
    proxy = _either(target)
    proxy.is_refusing = True
    cut = proxy.cut()
    time.sleep(HOLD_S)
    proxy.is_refusing = False
    return cut > 0


def delay_connections(target: Target) -> bool:
    """Every block of bytes comes up to two seconds late."""
    proxy = _either(target)
    proxy.delay_s = 2
    time.sleep(HOLD_S)
    proxy.delay_s = 0
    return True


def half_close(target: Target) -> bool:
    """Clients are told that nothing more comes; what they still send arrives."""
    return bool(_soon(lambda: [1] * _either(target).half_close()))


def lose_commit(kill: str) -> Fault:
    """The reply to a COMMIT is lost. kill: and what else dies at that moment: '', 'task' or 'warehouse'."""

    def lose(target: Target) -> bool:
        proxy = target.warehouse
        before = proxy.commits_lost

        def also() -> None:
            if kill == "task":
                _signal_all(target.task_processes(), signal.SIGKILL)
            elif kill == "warehouse":
                _signal_all(target.service("warehouse"), signal.SIGKILL)

        proxy.on_lost_commit = also
        proxy.commits_to_lose = 1
        try:
            return bool(_soon(lambda: [1] * (proxy.commits_lost - before)))
        finally:
            proxy.commits_to_lose, proxy.on_lost_commit = 0, None

    return lose


def run_again(target: Target) -> bool:
    """A second run of an hour, beside the first or after it."""
    known = target.platform.api.runs("retail_hourly", order_by="-run_after")
    if not known:
        return False
    key = target.chance.choice(known[:3])["partition_key"]
    run_id = f"again-{time.time_ns()}"
    body = {"dag_run_id": run_id, "logical_date": None, "partition_key": key}
    target.call("POST", "/api/v2/dags/retail_hourly/dagRuns", body)
    return True


def clear_run(target: Target) -> bool:
    """A run is cleared from its plan on, in the middle."""
    for found in _soon(lambda: [run for run in [target.hourly_run()] if run]):
        body = {
            "dry_run": False,
            "dag_run_id": found["dag_run_id"],
            "task_ids": ["plan"],
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        target.call("POST", "/api/v2/dags/retail_hourly/clearTaskInstances", body)
        return True
    return False


def launch_twice(target: Target) -> bool:
    """A zombie: a second job over the same plan, under another name, while the first one runs or after it."""
    slices = target.platform.sql(
        "select slice_id, plan_uri from ops.slice where plan_uri is not null order by planned_ts desc limit 2"
    )
    if not slices:
        return False
    chosen = target.chance.choice(slices)
    instance = target.platform.instance
    body = {
        "launchParameter": {
            "jobName": f"zombie-{chosen['slice_id']}-{int(time.time())}",
            "containerSpecGcsPath": f"{instance.settings['MADHATTER_TEMPLATES']}/hourly.json",
            "parameters": {
                "plan": chosen["plan_uri"],
                "bootstrap_servers": instance.address_of_clients("kafka"),
            },
        }
    }
    path = "/v1b3/projects/madhatter/locations/europe-west1/flexTemplates:launch"
    request = urllib.request.Request(
        f"{instance.url('dataflow')}{path}",
        method="POST",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bool(answer.status == 200)


ALL: dict[str, Fault] = {
    "kill broker": kill_service("kafka"),
    "kill warehouse": kill_service("warehouse"),
    "kill pipeline": kill_job,
    "kill dataflow": kill_service("dataflow"),
    "kill scheduler": kill_service("airflow-scheduler"),
    "kill triggerer": kill_service("airflow-triggerer"),
    "kill task": kill_task,
    "stop 20 s": pause,
    "full disk": fill_disk,
    "drop": drop_connections,
    "delay": delay_connections,
    "half-close": half_close,
    "lost commit": lose_commit(""),
    "lost commit, task killed": lose_commit("task"),
    "lost commit, warehouse killed": lose_commit("warehouse"),
    "second run": run_again,
    "clear": clear_run,
    "job twice": launch_twice,
}


def mended(target: Target) -> None:
    """Nothing is in the way any more."""
    for proxy in (target.kafka, target.warehouse):
        proxy.is_refusing, proxy.delay_s, proxy.commits_to_lose = False, 0, 0
    for disk in target.disks:
        (disk / "ballast").unlink(missing_ok=True)
    for process in target._all():
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_STOPPED:
                process.send_signal(signal.SIGCONT)


def _either(target: Target) -> Proxy:
    return target.chance.choice([target.kafka, target.warehouse])


def _soon(find: Callable[[], list[Any]]) -> list[Any]:
    """What `find` finds first, nothing after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.1)
    return []


def _signal(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.Error:
        return False
    return True


def _signal_all(processes: list[psutil.Process], number: signal.Signals) -> int:
    return sum(_signal(process, number) for process in processes)


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
