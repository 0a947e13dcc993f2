"""A Dataflow stand-in for each test."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.ports import free_ports
from tests.dataflow.stand_in import HERE, PLACE, ROOT, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    http, rpc = free_ports(2)
    server = Server(tmp_path / "dataflow", http, rpc)
    server.start()
    yield server
    assert server.process is not None
    if server.process.poll() is None:
        server.end(signal.SIGTERM)


@pytest.fixture
def airflow_env(server: Server, tmp_path: Path) -> dict[str, str]:
    """The environment of an Airflow process that is led to the server, as `make up` leads it."""
    paths = [ROOT / "local" / "airflow" / "redirect", ROOT, ROOT / "plugins"]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(
            {"conn_type": "google_cloud_platform", "extra": {"project": "madhatter", "is_anonymous": True}}
        ),
        "DATAFLOW_API_ENDPOINT": f"http://127.0.0.1:{server.port}",
        "DATAFLOW_GRPC_ENDPOINT": f"127.0.0.1:{server.grpc_port}",
        "MADHATTER_JOB_LINK": f"http://127.0.0.1:{server.port}/v1b3/projects/{{project_id}}/locations/{{location}}"
        "/jobs/{job_id}/messages",
        "MADHATTER_STORE": tmp_path.as_uri(),
        "MADHATTER_TEMPLATES": HERE.as_uri(),
        "MADHATTER_LOCATION": PLACE["location"],
    }
