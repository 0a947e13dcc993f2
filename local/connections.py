"""airflow_settings.yaml (Astro CLI's format) as the environment variables that Airflow takes connections from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

FIELDS = {
    "conn_type": "conn_type",
    "conn_host": "host",
    "conn_schema": "schema",
    "conn_login": "login",
    "conn_password": "password",
    "conn_port": "port",
    "conn_extra": "extra",
}


def read_settings(file: Path, hosts: dict[str, str]) -> dict[str, str]:
    """AIRFLOW_CONN_* and AIRFLOW_VAR_* of the file. hosts: host:port as the file has it, to host:port to use instead.

    A host with a port is replaced where it stands in one text, and where a mapping holds them as `host` and `port`.
    Raises ValueError that names the file and the entry when a connection has no id, no type, or an unknown field.
    """
    settings = (yaml.safe_load(file.read_text()) or {}).get("airflow") or {}
    env = {}
    for entry in settings.get("connections") or []:
        name = entry.get("conn_id")
        if not name or not entry.get("conn_type"):
            raise ValueError(f"{file}: a connection needs conn_id and conn_type, this one has {sorted(entry)}")
        unknown = set(entry) - set(FIELDS) - {"conn_id", "conn_uri"}
        if unknown:
            raise ValueError(f"{file}: connection {name} has unknown fields {sorted(unknown)}; known: {sorted(FIELDS)}")
        fields = {FIELDS[key]: value for key, value in entry.items() if key in FIELDS and value not in (None, "")}
        env[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(_mapped(fields, hosts))
    for entry in settings.get("variables") or []:
        if entry.get("variable_name"):
            env[f"AIRFLOW_VAR_{entry['variable_name'].upper()}"] = str(entry.get("variable_value", ""))
    return env


def _mapped(value: Any, hosts: dict[str, str]) -> Any:
    if isinstance(value, str):
        for old, new in hosts.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, list):
        return [_mapped(v, hosts) for v in value]
    if isinstance(value, dict):
        there = hosts.get(f"{value.get('host')}:{value.get('port')}")
        mapped = {k: _mapped(v, hosts) for k, v in value.items()}
        if there:
            host, port = there.rsplit(":", 1)
            mapped |= {"host": host, "port": int(port)}
        return mapped
    return value


def snowflake_arguments(env: dict[str, str], conn_id: str = "snowflake_default") -> dict[str, Any]:
    """Arguments for snowflake.connector.connect, from read_settings' environment variables."""
    conn = json.loads(env[f"AIRFLOW_CONN_{conn_id.upper()}"])
    names = {"login": "user", "password": "password", "schema": "schema"}
    extra: dict[str, Any] = conn.get("extra", {})
    return {new: conn[old] for old, new in names.items() if old in conn} | extra
