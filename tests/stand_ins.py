"""Stand-ins of a test's own: a broker and a warehouse on free ports, with what a test does to them and asks of them."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from local.instance import ROOT, Instance
from local.kafka import broker
from local.migrate import migrate
from local.ports import free_ports
from local.snowflake.client import connect
from madhatter import kafka
from madhatter.warehouse import Warehouse

ENV = Path(sys.prefix).parent
DEADLINE_S = 180


def until(condition: Callable[[], object], what: str) -> None:
    """Waits until the condition is true. Raises AssertionError that says what did not happen."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)


def records(bootstrap: str, *topics: str) -> Iterator[Message]:
    """All messages of the topics up to their ends; those of a partition come in order."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False}
    consumer = Consumer({**settings, "enable.partition.eof": True})
    try:
        known = [consumer.list_topics(topic, timeout=DEADLINE_S).topics[topic] for topic in topics]
        places = [
            TopicPartition(topic.topic, number, OFFSET_BEGINNING) for topic in known for number in topic.partitions
        ]
        consumer.assign(places)
        open_ends = {(place.topic, place.partition) for place in places}
        deadline = time.monotonic() + DEADLINE_S
        while open_ends:
            assert time.monotonic() < deadline, f"not read to its end within {DEADLINE_S} s: {open_ends}"
            for message in consumer.consume(10_000, timeout=0.2):
                deadline = time.monotonic() + DEADLINE_S
                error = message.error()
                if error is None:
                    yield message
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    open_ends.discard((message.topic(), message.partition()))
    finally:
        consumer.close()


@dataclass
class Process:
    """A process with its log, ended by kill -9: a stand-in has nothing to lose."""

    folder: Path
    started: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def run(self, command: list[str], env: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            self.started = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env
            )

    def start(self) -> None:
        """Starts it and waits until it answers. What does not come up is ended."""
        try:
            self.launch()
        except BaseException:
            if self.started is not None:
                self.end()
            raise

    def launch(self) -> None:
        raise NotImplementedError

    def is_ready(self, answers: Callable[[], bool]) -> bool:
        assert self.started is not None
        assert self.started.poll() is None, f"it ended: {self.log.read_text()[-3000:]}"
        return answers()

    def end(self) -> None:
        assert self.started is not None
        self.started.kill()
        self.started.wait()


class Broker(Process):
    """A real Kafka broker. Ended or stopped it starts again on the same port, with what it has stored."""

    def launch(self) -> None:
        properties, data = self.folder / "server.properties", self.folder / "data"
        if self.started is None:
            self.port, controller = free_ports(2)
            self.bootstrap = f"127.0.0.1:{self.port}"
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "M")
            broker.prepare(ENV, properties, data, cluster_id, self.port, controller)
        self.run(broker.command(ENV, properties, data))
        until(lambda: self.is_ready(lambda: broker.answers(self.port)), "the broker answers")
        self.admin: AdminClient = kafka.admin({"bootstrap.servers": self.bootstrap, "log_level": 2})

    def stop(self) -> None:
        """Ends it in order, so that it starts faster than after a kill."""
        assert self.started is not None
        self.started.terminate()
        self.started.wait()

    def create(self, timestamp_type: str = "LogAppendTime") -> str:
        """A new topic with four partitions; returns its name."""
        topic = f"orders-{uuid.uuid4().hex[:8]}"
        new = NewTopic(topic, 4, 1, config={"message.timestamp.type": timestamp_type})
        for created in self.admin.create_topics([new]).values():
            created.result()
        self.wait_for_leaders(topic)
        return topic

    def wait_for_leaders(self, *topics: str) -> None:
        """Returns when every partition of the topics answers, some moments after they were created."""

        def lead() -> bool:
            known = self.admin.list_topics(timeout=10).topics
            if not all(topic in known for topic in topics):
                return False
            latest = {TopicPartition(t, p): OffsetSpec.latest() for t in topics for p in known[t].partitions}
            return all(asked.exception() is None for asked in self.admin.list_offsets(latest).values())

        until(lead, f"{', '.join(topics)} have leaders")

    def read(self, topic: str) -> list[Message]:
        """All messages of a topic, by partition and offset."""
        return sorted(records(self.bootstrap, topic), key=lambda message: (message.partition(), message.offset()))


class Snowflake(Process):
    """The warehouse stand-in, with the platform's own migrations. Ended it starts again on the same port, with what was
    committed."""

    def launch(self) -> None:
        is_new = self.started is None
        if is_new:
            (self.base,) = (port - 84 for port in free_ports(1))
            self.port = self.base + 84
        python = str(ENV / "warehouse" / "bin" / "python")
        command = [python, "-m", "local.snowflake", "--port", f"{self.port}", "--data", str(self.folder / "data")]
        self.run(command, {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"})
        until(lambda: self.is_ready(self._listens), "the warehouse answers")
        if is_new:
            migrate(Instance(self.folder / "instance", self.base))

    def open(self) -> Warehouse:
        """A session of its own."""
        return Warehouse(connect(self.port))

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class PubSub(Process):
    """The stand-in. Started again it has the same ports and what it has stored."""

    port = http_port = 0

    def launch(self) -> None:
        if not self.port:
            self.port, self.http_port = free_ports(2)
        state = str(self.folder / "state")
        ports = ["--port", f"{self.port}", "--http-port", f"{self.http_port}"]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.run([sys.executable, "-m", "local.pubsub", *ports, "--state", state], env)
        until(lambda: self.is_ready(self._answers), "Pub/Sub answers")

    def _answers(self) -> bool:
        try:
            grpc.channel_ready_future(grpc.insecure_channel(self.address)).result(timeout=0.5)
        except grpc.FutureTimeoutError:
            return False
        return True

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def certs(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/oauth2/v3/certs"
