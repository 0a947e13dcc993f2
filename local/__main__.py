"""`python -m local COMMAND`: start, watch and stop the platform on this machine. `make help` lists the commands."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from local import health, services, table
from local.instance import ROOT, Instance
from local.progress import step


def up(instance: Instance) -> None:
    """Brings everything up, one named step after the other; what is already there costs nothing."""
    # This process uses the operators' own modules: they find the settings, and Airflow its folder, as services do.
    os.environ.update(instance.settings)
    from local import airflow, up

    start = time.monotonic()
    up.check(instance)
    # Built from source it takes two minutes: meanwhile everything else comes up.
    prism = _Background(lambda: up.get_prism(instance))
    with step("Supervisor"):
        services.supervise(instance)
    # Airflow boots while the stores are made ready: it needs none of them before its first run.
    boot = _Background(lambda: airflow.boot(instance))
    with step("Kafka, warehouse, Dataflow, Pub/Sub, functions") as say:
        # The functions first: Pub/Sub counts the calls that nobody answers.
        behind = (*services.functions(instance), *services.stores(instance))
        services.start(instance, behind)
        health.wait_ready(instance, behind, 240, say)
    up.prepare(instance)
    with step("Airflow") as say:
        boot.join()
        health.wait_ready(instance, services.AIRFLOW, 240, say)
    with step("Prism, for the stream"):
        prism.join()
    up.finish(instance)
    print(f"\nReady in {time.monotonic() - start:.0f} s.")
    print(f"Dashboards  {instance.url('airflow')}/plugin/dashboards")
    print(f"Airflow     {instance.url('airflow')}   user admin, password {instance.secrets.admin_password}")


def down(instance: Instance) -> None:
    """Stops everything; what the stores hold stays."""
    with step("Stop"):
        services.down(instance)


def status(instance: Instance) -> int:
    """Prints a table of the services; returns 1 when one of them does not run."""
    rows = health.status(instance)
    if not rows:
        print(f"Down. State folder: {instance.home}. Start it: make up")
        return 1
    print(
        table.text(
            ["service", "state", "pid", "up", "port", "MB"],
            [
                [
                    r.name,
                    r.state,
                    r.pid or "",
                    _ago(r.up_s) if r.pid else "",
                    r.port or "",
                    round(r.memory_bytes / 1e6) or "",
                ]
                for r in rows
            ],
        )
    )
    print(f"all {sum(r.memory_bytes for r in rows) / 1e9:.2f} GB   state folder {instance.home}")
    return 0 if all(r.state == "running" or r.name == services.LIVE for r in rows) else 1


def logs(instance: Instance, name: str, lines: int, follow: bool) -> int:
    """Prints the end of one service's log, or goes on with it."""
    if name not in (known := (*services.all_of(instance), "supervisord")):
        print(f"S={name}: no such service. Known: {' '.join(known)}", file=sys.stderr)
        return 2
    if follow:
        return subprocess.run(
            ["tail", "-n", str(lines), "-F", str(services.log_file(instance, name))], check=False
        ).returncode
    print(services.tail(instance, name, lines))
    return 0


def sql(instance: Instance, query: str, form: str) -> int:
    """Runs statements in one session of the warehouse and prints their rows. At the first error, its text goes to
    standard error, the exit code is 1 and an open transaction is rolled back."""
    import snowflake.connector

    from local.connections import snowflake_arguments

    if not query.strip():
        print('Give a statement: make sql Q="select * from ops.reconciliation" (FORMAT=csv for CSV)', file=sys.stderr)
        return 2

    try:
        with snowflake.connector.connect(**snowflake_arguments(instance.settings)) as session:
            for cursor in session.execute_string(query):
                columns = [column.name for column in cursor.description or []]
                rows = [list(row) for row in cursor.fetchall()]  # type: ignore[arg-type]
                shown = table.csv(columns, rows) if form == "csv" else f"{table.text(columns, rows)}\n"
                print(shown, end="")
    except snowflake.connector.errors.Error as e:
        print(f"{e.msg or e}", file=sys.stderr)
        if not health.ready(instance, "warehouse"):
            print(f"The warehouse does not answer on {instance.address('warehouse')}: make up", file=sys.stderr)
        return 1
    return 0


def clean(instance: Instance, everything: bool) -> None:
    """Stops the platform and removes what it has stored; with everything also the environments."""
    down(instance)
    names = ["run", "logs", "data", "airflow", "instance.json", "cache", "port_base", "brokers"] + (
        ["env", "boot"] if everything else []
    )
    with step("Remove the state folder's content"):
        for name in names:
            path = instance.home / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def migrate(instance: Instance) -> None:
    """Brings the warehouse's schemas up to date."""
    from local.migrate import migrate as schemachange

    with step("Warehouse tables"):
        schemachange(instance)


def drill(instance: Instance) -> int:
    """Rebuilds the warehouse beside itself and compares; returns 1 when they differ."""
    os.environ.update(instance.settings)
    from local.drill import drill as rebuild

    return rebuild(instance)


def signal(instance: Instance, kind: str) -> int:
    """Makes one thing happen that the live half reacts to, and shows its way; returns 1 when it does not arrive."""
    os.environ.update(instance.settings)
    from local.inject import inject

    return inject(instance, kind)


def letters(instance: Instance, again: str) -> int:
    """Shows the dead letters of Pub/Sub, or sends those of a subscription again."""
    arguments = ["--project", instance.settings["MADHATTER_PROJECT"], *(["--again", again] if again else [])]
    return run(instance, "include.pubsub.letters", *arguments)


def run(instance: Instance, module: str, *arguments: str) -> int:
    """Runs a Python module with the instance's environment, in the repository."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env=instance.environment(), cwd=ROOT, check=False
    ).returncode


class _Background:
    """A function in a thread; join() waits for it and raises what it raised."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as e:
            self._error = e

    def join(self) -> None:
        self._thread.join()
        if self._error:
            raise self._error


def _ago(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def main() -> int:
    """Runs the command of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down", "status", "migrate", "drill"):
        commands.add_parser(name)
    p = commands.add_parser("logs")
    p.add_argument("service", nargs="?", default=os.environ.get("S", ""))
    p.add_argument("-n", dest="lines", type=int, default=100)
    p.add_argument("-f", dest="follow", action="store_true")
    p = commands.add_parser("sql")
    p.add_argument("query", nargs="?", default=os.environ.get("Q", ""))
    p.add_argument("--format", default=os.environ.get("FORMAT") or "table", choices=["table", "csv"])
    commands.add_parser("signal").add_argument("kind", nargs="?", default="")
    commands.add_parser("letters").add_argument("again", nargs="?", default="")
    p = commands.add_parser("clean")
    p.add_argument("--all", action="store_true", dest="everything")
    for name in ("test", "bench"):
        commands.add_parser(name).add_argument("arguments", nargs=argparse.REMAINDER)
    a = parser.parse_args()
    if a.command == "sql" and a.format not in ("table", "csv"):
        parser.error(f"FORMAT={a.format}: table and csv are known")
    instance = Instance.current()
    if a.command in ("up", "down", "clean"):
        try:
            instance.home.mkdir(parents=True, exist_ok=True)
            lock = (instance.home / "lock").open("w")
        except OSError as e:
            print(f"the state folder {instance.home} cannot be written ({e.strerror}): make it so", file=sys.stderr)
            return 1
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another make up, down or clean works on {instance.home}: wait for its end", file=sys.stderr)
            return 1
    actions: dict[str, Callable[[], int | None]] = {
        "up": lambda: up(instance),
        "down": lambda: down(instance),
        "status": lambda: status(instance),
        "migrate": lambda: migrate(instance),
        "drill": lambda: drill(instance),
        "signal": lambda: signal(instance, a.kind),
        "letters": lambda: letters(instance, a.again),
        "logs": lambda: logs(instance, a.service, a.lines, a.follow),
        "sql": lambda: sql(instance, a.query, a.format),
        "clean": lambda: clean(instance, a.everything),
        "test": lambda: run(instance, "pytest", *a.arguments),
        "bench": lambda: run(instance, "bench", *a.arguments),
    }
    try:
        return actions[a.command]() or 0
    except (services.ServiceError, RuntimeError, ValueError, OSError) as e:
        print(f"\n{e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped here. What runs goes on running: `make up` continues, `make down` ends it.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
