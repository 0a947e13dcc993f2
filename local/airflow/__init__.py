"""Airflow on one machine: its database, its user, its four components."""

from __future__ import annotations

import json
import subprocess

from local import services
from local.instance import ROOT, Instance


def boot(instance: Instance) -> None:
    """Migrates Airflow's database where it is not of this version and asks for the four components; waits for none.

    Raises RuntimeError with the end of what `airflow db migrate` said when it fails.
    """
    home = instance.airflow_home
    home.mkdir(parents=True, exist_ok=True)
    passwords = home / "passwords.json"
    passwords.touch(mode=0o600)
    passwords.write_text(json.dumps({"admin": instance.secrets.admin_password}))
    migrated, version = home / "migrated", _version()
    if not (home / "airflow.db").exists() or not migrated.exists() or migrated.read_text() != version:
        # An older version's components must not run over the new tables.
        services.stop(instance, services.AIRFLOW)
        done = subprocess.run(
            [str(instance.platform_python), "-m", "airflow", "db", "migrate"],
            env=instance.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"airflow db migrate failed:\n{(done.stdout + done.stderr)[-2000:]}")
        migrated.write_text(version)
    services.start(instance, services.AIRFLOW)


def _version() -> str:
    from importlib.metadata import version

    return version("apache-airflow-core")
