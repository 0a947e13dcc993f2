"""The platform's processes under supervisord: what they are, how they start and stop."""

from __future__ import annotations

import http.client
import json
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

from local import processes
from local.instance import BROKERS, FUNCTIONS, HOST, OFFSETS, ROOT, BrokenInstance, Instance, stored_port_base
from local.kafka import broker
from local.ports import in_use

AIRFLOW = ("airflow-api", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
LIVE, COLLECTOR, PUBSUB = "live", "collector", "pubsub"
EDGE = (COLLECTOR, LIVE)
HOUSEKEEPING, SCHEDULER = "housekeeping", "scheduler"
ALERT_BOOK = "alert_book"
# Between two runs nothing but a shell waits. After a start the platform has other things to do first.
DAILY = 'sleep 600; while :; do "$@" && sleep 86400 || sleep 3600; done'
MINUTELY = 'while :; do sleep 60; "$@"; done'
SOURCES = ROOT / "include/functions"
# What a function may do at once: each waits for Pub/Sub, Kafka or the warehouse more than it computes.
THREADS = "4"
STOPPED = ("STOPPED", "EXITED", "FATAL")
LOG_BYTES = 5 << 20


class ServiceError(RuntimeError):
    """A service that does not start or answer: which one, what its log says last, what to do."""


def stores(instance: Instance) -> tuple[str, ...]:
    """What Airflow's tasks and the senders write to."""
    return (*instance.broker_names, "warehouse", "dataflow", PUBSUB)


def functions(instance: Instance) -> dict[str, str]:
    """The services of the functions, and what each is called as a function. Without a stream nothing is judged or
    loaded: what is left is the book of alerts, for Airflow's own."""
    names = FUNCTIONS if has_stream(instance) else (ALERT_BOOK,)
    return {f"function-{name.replace('_', '-')}": name for name in names}


def has_stream(instance: Instance) -> bool:
    """Whether the live half is wanted."""
    return instance.settings.get("MADHATTER_STREAM") != "off"


def edge(instance: Instance) -> tuple[str, ...]:
    """What begins when all else is there."""
    return (*EDGE, HOUSEKEEPING, SCHEDULER) if has_stream(instance) else (*EDGE, HOUSEKEEPING)


def all_of(instance: Instance) -> tuple[str, ...]:
    """All services of the instance."""
    return (*stores(instance), *functions(instance), *AIRFLOW, *edge(instance))


def commands(instance: Instance) -> dict[str, list[str]]:
    """The command line of each service."""
    python, warehouse = str(instance.platform_python), str(instance.warehouse_python)
    airflow = [python, "-m", "airflow"]
    port = instance.port
    lines: dict[str, list[str]] = {
        **{
            name: broker.command(instance.env, instance.run / f"{name}.properties", instance.data / name)
            for name in instance.broker_names
        },
        "warehouse": [warehouse, "-m", "local.snowflake"],
        "dataflow": [python, "-m", "local.dataflow", "--grpc-port", f"{port('dataflow_grpc')}"],
        "airflow-api": [*airflow, "api-server"],
        # The API server reads the task logs from the same disk: no log servers.
        "airflow-scheduler": [*airflow, "scheduler", "--skip-serve-logs"],
        "airflow-dag-processor": [*airflow, "dag-processor"],
        "airflow-triggerer": [*airflow, "triggerer", "--skip-serve-logs"],
        PUBSUB: [python, "-m", "local.pubsub", "--port", f"{port(PUBSUB)}", "--http-port", f"{port('pubsub_http')}"],
        COLLECTOR: _function(instance, COLLECTOR, "collect"),
        **{service: _function(instance, name, name) for service, name in functions(instance).items()},
        LIVE: [python, "-m", "local.simulator.live", "--bootstrap", instance.bootstrap],
        SCHEDULER: ["/bin/sh", "-c", MINUTELY, SCHEDULER, python, "-m", "local.scheduler", "pipeline_monitor"],
        HOUSEKEEPING: ["/bin/sh", "-c", DAILY, HOUSEKEEPING, python, "-m", "local.housekeeping"],
    }
    lines[LIVE] += ["--rate", instance.settings.get("MADHATTER_LIVE_RATE", "5")]
    lines[LIVE] += ["--handover", str(instance.handover)]
    if account := instance.settings.get("MADHATTER_ACCOUNT"):
        lines[LIVE] += ["--account", account]
    lines[PUBSUB] += ["--state", f"{instance.data / PUBSUB}"]
    lines["warehouse"] += ["--port", f"{port('warehouse')}", "--data", f"{instance.data / 'warehouse'}"]
    lines["dataflow"] += ["--port", f"{port('dataflow')}", "--state", f"{instance.data / 'dataflow'}"]
    for name in AIRFLOW:
        lines[name] = [python, "-m", "local.launch", name, "--", *lines[name]]
    return {name: lines[name] for name in all_of(instance)}


def _function(instance: Instance, name: str, target: str) -> list[str]:
    command = [str(instance.platform_python), "-m", "functions_framework", "--target", target]
    return [*command, "--source", str(SOURCES / name / "main.py"), "--host", HOST, "--port", f"{instance.port(name)}"]


def configuration(instance: Instance) -> str:
    """supervisord's settings, its password included: a file for its owner only. Services inherit its environment."""
    password, run = instance.secrets.supervisor_password, instance.run
    text = f"""\
[supervisord]
pidfile={_escape(str(run / "supervisord.pid"))}
logfile={_escape(str(instance.logs / "supervisord.log"))}
logfile_maxbytes={LOG_BYTES}
logfile_backups=1
identifier=madhatter
directory={_escape(str(ROOT))}
childlogdir={_escape(str(instance.logs))}

[inet_http_server]
port={instance.address("supervisor")}
username=madhatter
password={password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    for name, command in commands(instance).items():
        text += f"""
[program:{name}]
command={_escape(shlex.join(command))}
environment={processes.MARK}="{name}"{f',THREADS="{THREADS}"' if name in functions(instance) else ""}
autostart=false
autorestart=true
startsecs=2
startretries=1000
stopwaitsecs=20
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={_escape(str(log_file(instance, name)))}
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups=2
"""
    return text


def log_file(instance: Instance, name: str) -> Path:
    """Where a service's output goes."""
    return instance.logs / f"{name}.log"


def control(instance: Instance) -> xmlrpc.client.ServerProxy:
    """supervisord's own interface (`.supervisor.*`), whether it runs or not."""
    address = f"http://madhatter:{instance.secrets.supervisor_password}@{instance.address('supervisor')}/RPC2"
    return xmlrpc.client.ServerProxy(address)


def is_up(instance: Instance) -> bool:
    """Whether this instance's supervisord answers, with this instance's password. No, when that cannot be read: `make
    down` then ends each process by itself."""
    if not (instance.home / "instance.json").exists():
        return False
    try:
        control(instance).supervisor.getPID()
    except (OSError, http.client.HTTPException, xmlrpc.client.Error, BrokenInstance):
        return False
    return True


def supervise(instance: Instance) -> bool:
    """Makes sure that supervisord runs with today's settings. Returns whether it was started by this call.

    Processes that an earlier supervisord left behind are ended first. Where the running one has other settings,
    everything is stopped.
    Raises ServiceError when a port belongs to somebody else or supervisord does not come up.
    """
    wanted = {
        instance.run / "supervisord.conf": configuration(instance),
        instance.run / "environment.json": json.dumps(instance.settings, indent=1),
    }
    stored = stored_port_base(instance.home)
    if stored not in ("", str(instance.port_base)) and processes.of_service(instance.home):
        raise ServiceError(
            f"the platform of {instance.home} runs with PORT_BASE={stored}: leave PORT_BASE out, or `make down` first"
        )
    if is_up(instance):
        if all(file.exists() and file.read_text() == text for file, text in wanted.items()):
            return False
        down(instance)
    processes.end(processes.of_service(instance.home))
    for folder in (instance.run, instance.logs, instance.data, instance.airflow_home):
        folder.mkdir(parents=True, exist_ok=True)
    taken = [f"{port} ({name})" for name, port in ports(instance).items() if in_use(port)]
    if taken:
        raise ServiceError(
            f"ports in use by another program: {', '.join(taken)}. End that program, or choose other ports: "
            f"PORT_BASE={28_000 if instance.port_base < 23_000 else 18_000} make up"
        )
    (instance.home / "port_base").write_text(f"{instance.port_base}\n")
    for file, text in wanted.items():
        file.touch(mode=0o600)
        file.write_text(text)
    _prepare_brokers(instance)
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(instance.run / "supervisord.conf")],
        env=instance.environment() | {processes.MARK: "supervisord"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"supervisord did not start: {done.stderr.strip() or done.stdout.strip()}")
    wait_for(lambda: is_up(instance), 10, f"supervisord does not answer on {instance.address('supervisor')}")
    return True


def _prepare_brokers(instance: Instance) -> None:
    (instance.home / "brokers").write_text(f"{instance.brokers}\n")
    controllers = [instance.port(f"{name}_controller") for name in instance.broker_names]
    for node_id, name in enumerate(instance.broker_names, 1):
        broker.prepare(
            instance.env,
            instance.run / f"{name}.properties",
            instance.data / name,
            instance.secrets.cluster_id,
            instance.port(name),
            controllers[node_id - 1],
            instance.address_of_clients(name),
            node_id,
            controllers if instance.brokers > 1 else (),
        )


def start(instance: Instance, names: Collection[str]) -> None:
    """Asks supervisord to start services; returns at once. Those that run or are on their way are left alone."""
    supervisor = control(instance).supervisor
    for name in names:
        if state(instance, name) not in ("RUNNING", "STARTING", "BACKOFF"):
            supervisor.startProcess(name, False)


def stop(instance: Instance, names: Collection[str]) -> None:
    """Stops services, all at once, and waits until they are gone. Those that do not run are left alone, and those that
    supervisord does not know: it was started with other settings."""
    supervisor = control(instance).supervisor
    known = {info["name"] for info in cast(list[dict[str, Any]], supervisor.getAllProcessInfo())}
    names = [name for name in names if name in known]
    for name in names:
        if state(instance, name) not in STOPPED:
            supervisor.stopProcess(name, False)
    wait_for(lambda: all(state(instance, name) in STOPPED for name in names), 30, f"{', '.join(names)}: do not end")
    for name in names:
        processes.end(processes.of_service(instance.home, name))


def down(instance: Instance) -> int:
    """Stops everything of the instance, supervisord last. Returns how many processes had to be ended one by one."""
    if is_up(instance):
        supervisor = control(instance).supervisor
        # What writes goes before what it writes to; Pub/Sub before the functions, which it would miss, and count it.
        stop(instance, [name for name in (*edge(instance), PUBSUB, *AIRFLOW) if name != COLLECTOR])
        stop(instance, (*functions(instance), COLLECTOR))
        stop(instance, [name for name in stores(instance) if name != PUBSUB])
        supervisor.shutdown()
        wait_for(lambda: not is_up(instance), 20, "supervisord does not end")
    left = processes.of_service(instance.home)
    processes.end(left)
    pidfile = instance.run / "supervisord.pid"
    wait_for(
        lambda: not (is_up(instance) or any(in_use(p) for p in ports(instance).values())), 20, "a port stays in use"
    )
    pidfile.unlink(missing_ok=True)
    return len(left)


def state(instance: Instance, name: str) -> str:
    """Supervisord's word for a service, such as RUNNING."""
    try:
        info = control(instance).supervisor.getProcessInfo(name)
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return "unknown: supervisord does not answer"
    return str(info["statename"])  # type: ignore[index, call-overload]


def tail(instance: Instance, name: str, lines: int) -> str:
    """The last lines of a service's log."""
    file = log_file(instance, name)
    if not file.exists():
        return f"(no log yet: {name} has never run)"
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])


def ports(instance: Instance) -> dict[str, int]:
    """All ports that the instance listens on."""
    absent = BROKERS[instance.brokers :]
    return {name: instance.port(name) for name in OFFSETS if name.removesuffix("_controller") not in absent}


def wait_for(condition: Callable[[], bool], timeout_s: float, failure: str) -> None:
    """Returns when condition is true. Raises ServiceError(failure) after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceError(f"{failure} ({timeout_s:.0f} s)")
        time.sleep(0.05)


def _escape(value: str) -> str:
    return value.replace("%", "%%")
