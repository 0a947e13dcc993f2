"""The stores under supervision: whatever is killed comes back, whatever is stopped is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from local import health, processes, services
from local.instance import HOST, Instance
from local.ports import free_port_base

READY_S = 180


def bring_up(instance: Instance) -> None:
    services.supervise(instance)
    services.start(instance, services.stores(instance))
    health.wait_ready(instance, services.stores(instance), READY_S)


def pid(instance: Instance, name: str) -> int:
    return next(row.pid for row in health.status(instance) if row.name == name)


def comes_back(instance: Instance, name: str, killed: int) -> Callable[[], bool]:
    return lambda: pid(instance, name) not in (0, killed) and health.ready(instance, name)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    made = Instance(tmp_path_factory.mktemp("home"), free_port_base())
    bring_up(made)
    yield made
    services.down(made)
    assert processes.of_service(made.home) == []


@pytest.mark.parametrize("name", ["kafka", "warehouse", "dataflow"])
def test_killed_store_comes_back_by_itself(instance: Instance, name: str) -> None:
    bring_up(instance)
    killed = pid(instance, name)
    os.kill(killed, signal.SIGKILL)
    services.wait_for(comes_back(instance, name, killed), READY_S, f"{name} did not come back")


def test_messages_survive_a_killed_broker(instance: Instance) -> None:
    bring_up(instance)
    address = instance.address("kafka")
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
    producer = Producer({"bootstrap.servers": address})
    producer.produce("kept", b"1", on_delivery=lambda error, _: delivered.append(error))
    delivered: list[object] = []
    assert producer.flush(READY_S) == 0
    assert delivered == [None]
    killed = pid(instance, "kafka")
    os.kill(killed, signal.SIGKILL)
    services.wait_for(comes_back(instance, "kafka", killed), READY_S, "kafka did not come back")
    consumer = Consumer({"bootstrap.servers": address, "group.id": "any", "enable.auto.commit": False})
    consumer.assign([TopicPartition("kept", 0, 0)])
    message = consumer.poll(READY_S)
    consumer.close()
    assert message is not None
    assert message.value() == b"1"


def test_missing_topic_is_an_error_and_not_made_up(instance: Instance) -> None:
    bring_up(instance)
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": instance.address("kafka"), "message.timeout.ms": 3000})
    producer.produce("no-such-topic", b"1", on_delivery=lambda error, _: failed.append(error))
    producer.flush(READY_S)
    assert [error is None for error in failed] == [False]
    admin = AdminClient({"bootstrap.servers": instance.address("kafka")})
    assert "no-such-topic" not in admin.list_topics(timeout=10).topics


def test_second_start_changes_nothing(instance: Instance) -> None:
    bring_up(instance)
    before = [row.pid for row in health.status(instance)]
    assert services.supervise(instance) is False
    bring_up(instance)
    assert [row.pid for row in health.status(instance)] == before


def test_next_start_replaces_what_a_killed_supervisor_left(instance: Instance) -> None:
    bring_up(instance)
    orphan = pid(instance, "warehouse")
    os.kill(int((instance.run / "supervisord.pid").read_text()), signal.SIGKILL)
    services.wait_for(lambda: not services.is_up(instance), READY_S, "the supervisor survived")
    assert psutil.pid_exists(orphan)
    bring_up(instance)
    assert pid(instance, "warehouse") != orphan
    assert not psutil.pid_exists(orphan)


def test_other_settings_restart_the_services(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_up(instance)
    before = pid(instance, "warehouse")
    monkeypatch.setenv("MADHATTER_CADENCE", "*/7 * * * *")
    bring_up(Instance(instance.home, instance.port_base))
    assert pid(instance, "warehouse") != before


def test_stop_with_other_settings_than_the_start_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Instance(tmp_path, free_port_base())
    monkeypatch.setenv("MADHATTER_STREAM", "off")
    services.supervise(other)
    monkeypatch.delenv("MADHATTER_STREAM")
    services.down(other)
    assert processes.of_service(other.home) == []


def test_port_of_another_program_is_named(tmp_path: Path) -> None:
    other = Instance(tmp_path / "home", free_port_base())
    with socket.socket() as program:
        program.bind((HOST, other.port("warehouse")))
        program.listen()
        with pytest.raises(services.ServiceError, match=rf"{other.port('warehouse')} \(warehouse\).*PORT_BASE="):
            services.supervise(other)
    assert processes.of_service(other.home) == []


def test_service_that_does_not_start_is_named_with_its_log(instance: Instance) -> None:
    bring_up(instance)
    services.stop(instance, ["warehouse"])
    with pytest.raises(services.ServiceError, match="warehouse does not answer"):
        health.wait_ready(instance, ["warehouse"], 0)


def test_supervisor_asks_for_its_password(instance: Instance) -> None:
    bring_up(instance)
    stranger = Instance(instance.home.parent / "stranger", instance.port_base)
    assert stranger.secrets.supervisor_password != instance.secrets.supervisor_password
    assert not services.is_up(stranger)
    assert (instance.run / "supervisord.conf").stat().st_mode & 0o077 == 0


def test_launch_ends_what_the_service_left_behind(tmp_path: Path) -> None:
    env = os.environ | {"MADHATTER_HOME": str(tmp_path), processes.MARK: "leaver"}
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env, start_new_session=True)
    launch = [sys.executable, "-m", "local.launch", "leaver", "--", sys.executable, "-c", "print('runs')"]
    done = subprocess.run(launch, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "runs\n"
    assert left.wait(READY_S) == -signal.SIGTERM
