"""The streaming job under the Dataflow stand-in: however it ends, runner and worker go with it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from include.beam.live import TOPICS
from local import prism
from local.dataflow import process
from local.dataflow.__main__ import IMAGES
from local.instance import ROOT
from local.ports import free_ports
from madhatter import kafka
from tests.dataflow.stand_in import PLACE, Server
from tests.live.job import Told
from tests.stand_ins import Broker, PubSub, until

TEMPLATE = ROOT / "include" / "beam" / "templates" / "live.json"


def serve(folder: Path, **env: str) -> Server:
    http, rpc = free_ports(2)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    server = Server(folder / "dataflow", http, rpc, images=IMAGES, env={**kept, **env})
    server.start()
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pubsub = PubSub(tmp_path_factory.mktemp("pubsub"))
    pubsub.start()
    Told(pubsub)  # makes the topics
    own = serve(tmp_path_factory.mktemp("dataflow"), PUBSUB_EMULATOR_HOST=pubsub.address)
    yield own
    own.end(signal.SIGTERM)
    pubsub.end()


@pytest.fixture(scope="module")
def bootstrap(broker: Broker) -> str:
    kafka.create_topics(broker.admin, TOPICS)
    broker.wait_for_leaders(*TOPICS)
    return broker.bootstrap


def launch(server: Server, bootstrap: str, store: Path, name: str) -> str:
    """A job that has told of minutes."""
    before = datetime.fromtimestamp(time.time() // 60 * 60 - 600, UTC).isoformat()
    position = store / "live" / "position.json"
    position.parent.mkdir(parents=True)
    position.write_text(json.dumps({"final_until": before}))
    job_id = server.launch(name, TEMPLATE, bootstrap_servers=bootstrap, store=store.as_uri(), project="madhatter")
    until(lambda: before not in position.read_text(), "minutes without events are final")
    return job_id


def member(job_id: str, name: str) -> psutil.Process:
    """`prism`, or the worker: the one that runs live.py."""
    (found,) = [one for one in process.members(job_id) if (one.name() == "prism") == (name == "prism") and _is(one)]
    return found


def _is(one: psutil.Process) -> bool:
    return bool(one.name() == "prism") or one.cmdline()[1:3] == ["-m", "include.beam.live"]


@pytest.mark.parametrize(
    ("how", "state"),
    [("cancel", "CANCELLED"), ("drain", "DRAINED"), ("runner killed", "FAILED"), ("worker killed", "FAILED")],
)
def test_job_that_ends_leaves_no_process(server: Server, bootstrap: str, tmp_path: Path, how: str, state: str) -> None:
    job_id = launch(server, bootstrap, tmp_path, how.replace(" ", "-"))
    runner, worker = member(job_id, "prism"), member(job_id, "worker")
    if how in ("cancel", "drain"):
        wanted = "JOB_STATE_CANCELLED" if how == "cancel" else "JOB_STATE_DRAINED"
        server.jobs.jobs().update(**PLACE, jobId=job_id, body={"requestedState": wanted}).execute()
    else:
        (runner if how == "runner killed" else worker).kill()
    assert server.end_state(job_id) == state
    until(lambda: not process.members(job_id), "no process of the job is left")


def test_job_without_prism_fails_with_words(tmp_path: Path) -> None:
    server = serve(tmp_path, MADHATTER_PRISM=str(tmp_path / "nothing"))
    job_id = server.launch(
        "live", TEMPLATE, bootstrap_servers="localhost:1", store=tmp_path.as_uri(), project="madhatter"
    )
    assert server.end_state(job_id) == "FAILED"
    assert f"run `python -m local.prism {tmp_path / 'nothing'}`" in server.error(job_id)
    server.end(signal.SIGTERM)


def test_prism_that_was_altered_is_not_started(tmp_path: Path) -> None:
    (tmp_path / prism.BINARY).write_bytes(b"something else")
    (tmp_path / prism.RECORD).write_text(json.dumps({"version": prism.wanted(), "sha256": "0" * 64}))
    with pytest.raises(prism.PrismMissing, match="is not what was installed"):
        prism.binary(tmp_path)
    (tmp_path / prism.RECORD).write_text(json.dumps({"version": "2.0.0", "sha256": "0" * 64}))
    with pytest.raises(prism.PrismMissing, match=r"is of Beam 2\.0\.0"):
        prism.binary(tmp_path)
