"""Runs schemachange, unmodified, over include/sql/migrations against this instance's warehouse."""

from __future__ import annotations

import subprocess

from local.instance import ROOT, Instance

MIGRATIONS = "include/sql/migrations"
HISTORY = "MADHATTER.OPS.CHANGE_HISTORY"


def migrate(instance: Instance) -> None:
    """Applies what is new. Raises RuntimeError with schemachange's own last words."""
    host, port = instance.address("warehouse").split(":")
    endpoint = {"HOST": host, "PORT": port, "PROTOCOL": "http", "DATABASE": "MADHATTER"}
    endpoint |= dict.fromkeys(("ACCOUNT", "USER", "PASSWORD"), "local")
    done = subprocess.run(
        [
            str(instance.warehouse_python.parent / "schemachange"),
            *("deploy", "-f", MIGRATIONS, "-c", HISTORY, "--schemachange-create-change-history-table"),
        ],
        cwd=ROOT,
        env=instance.environment()
        | {f"SNOWFLAKE_{name}": value for name, value in endpoint.items()}
        | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"migrations failed:\n{(done.stdout + done.stderr)[-2000:]}")
