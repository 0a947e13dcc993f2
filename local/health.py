"""Whether the platform's services answer, each by its own endpoint; what they are is in local/services.py."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass

from local import processes, services
from local.instance import Instance
from local.kafka import broker

POLL_S = 0.2


@dataclass(frozen=True)
class Status:
    """One service. state: supervisord's word, or 'not answering'. pid, memory_bytes: 0 when it does not run."""

    name: str
    state: str
    pid: int
    up_s: float
    port: int | None
    memory_bytes: int


def ready(instance: Instance, name: str) -> bool:
    """Whether a service answers on its own endpoint."""
    if name in instance.broker_names:
        return broker.answers(instance.port(name))
    if name == services.PUBSUB:
        return _get(f"{instance.url('pubsub_http')}/oauth2/v3/certs") is not None
    if name in services.functions(instance):
        return _get(instance.url(services.functions(instance)[name])) is not None
    if name in ("warehouse", "dataflow", services.COLLECTOR):
        return _get(f"{instance.url(name)}/health") is not None
    if name in services.AIRFLOW:
        health = _get(f"{instance.url('airflow')}/api/v2/monitor/health")
        part = name.removeprefix("airflow-").replace("-", "_")
        key = "metadatabase" if part == "api" else part
        return health is not None and (health.get(key) or {}).get("status") == "healthy"
    return services.state(instance, name) == "RUNNING"


def wait_ready(
    instance: Instance, names: Collection[str], timeout_s: float = 60, say: Callable[[str], None] = lambda _: None
) -> None:
    """Returns when all services answer. say: told which ones are awaited.

    Raises ServiceError that names the service and shows its log's end when one does not answer within timeout_s.
    """
    left, deadline = list(names), time.monotonic() + timeout_s
    while True:
        left = [name for name in left if not ready(instance, name)]
        if not left:
            say("")
            return
        say(f"waiting for {', '.join(left)}")
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    name = left[0]
    raise services.ServiceError(
        f"{name} does not answer after {timeout_s:.0f} s (state: {services.state(instance, name)}). "
        f"The end of its log:\n{services.tail(instance, name, 15)}\nAll of it: make logs S={name}"
    )


def status(instance: Instance) -> list[Status]:
    """All services. Empty when the instance is down."""
    if not services.is_up(instance):
        if processes.of_service(instance.home):
            _ = instance.secrets  # they run, but the password by which to ask is broken
        return []
    found = {info["name"]: info for info in services.control(instance).supervisor.getAllProcessInfo()}  # type: ignore[union-attr, index, call-overload, arg-type]
    rows = []
    for name in services.all_of(instance):
        info = found[name]  # type: ignore[index]
        state, pid = str(info["statename"]).lower(), int(info["pid"])  # type: ignore[call-overload, index, arg-type]
        if state == "running" and not ready(instance, name):
            state = "not answering"
        up_s = float(info["now"]) - float(info["start"]) if pid else 0.0  # type: ignore[call-overload, index, arg-type]
        port = ({"airflow-api": "airflow"} | services.functions(instance)).get(name, name)
        rows.append(
            Status(
                name, state, pid, up_s, services.ports(instance).get(port), processes.memory_bytes(pid) if pid else 0
            )
        )
    return rows


def _get(url: str) -> dict[str, dict[str, str]] | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            body = answer.read()
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return None
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
