"""Functions as they run: functions-framework processes behind the Pub/Sub stand-in, asked over their interfaces."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
import msgspec
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from include.pubsub.apply import apply
from include.pubsub.topology import dead_letters, read
from local.instance import ROOT
from local.ports import free_ports
from local.pubsub.tokens import Signer
from tests.stand_ins import DEADLINE_S, PubSub, until

PROJECT, ACCOUNT = "madhatter", "push@madhatter.iam.gserviceaccount.com"
Row = dict[str, Any]
T = TypeVar("T")


def status_before_body(port: int, request: str, **headers: str) -> int:
    """The status that a request such as "POST /" is answered with before any of its body is sent, said to be 1 TB."""
    lines = [f"{request} HTTP/1.1", "Host: x", f"Content-Length: {1 << 40}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(4096).split()[1])


@dataclass
class Function:
    """One function's process and its parent, on a port of its own."""

    name: str
    folder: Path
    port: int
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def lines(self) -> list[Row]:
        """The log's entries of requests."""
        entries = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [entry for entry in entries if "status" in entry]

    def start(self) -> None:
        self.launch()
        until(self.is_up, f"{self.name} answers")

    def launch(self) -> None:
        source = f"include/functions/{self.name}/main.py"
        command = ["-m", "functions_framework", "--target", self.name, "--source", source]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--host", "127.0.0.1", "--port", f"{self.port}"],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return httpx.get(self.url).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9 of the whole function."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def answers(self) -> Row:
        """What it has counted."""
        found: Row = httpx.get(self.url).json()
        return found


@dataclass
class Live:
    """Pub/Sub with the topology, and what is asked of it. Functions are started one by one."""

    folder: Path
    pubsub: PubSub
    names: list[str]
    functions: dict[str, Function] = field(init=False)

    def __post_init__(self) -> None:
        ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.settings = {
            "PUBSUB_EMULATOR_HOST": self.pubsub.address,
            "MADHATTER_PROJECT": PROJECT,
            "MADHATTER_PUSH_CERTS": self.pubsub.certs,
            "MADHATTER_PUSH_ACCOUNT": ACCOUNT,
            "MADHATTER_FUNCTIONS": json.dumps(self.urls),
            "THREADS": "4",
        }
        around = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.env = around | self.settings
        self.functions = {name: Function(name, self.folder, ports[name], self.env) for name in self.names}
        self.channel = grpc.insecure_channel(self.pubsub.address, [("grpc.max_receive_message_length", -1)])
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))

    def apply(self, attempts: int = 0) -> list[str]:
        """attempts: of all subscriptions, where a test waits for dead letters; else as the topology has it."""
        topology = read()
        if attempts:
            subscriptions = topology.subscriptions.items()
            few = {name: msgspec.structs.replace(one, attempts=attempts) for name, one in subscriptions}
            topology = replace(topology, subscriptions=few)
        return list(apply(PROJECT, topology, self.urls, ACCOUNT))

    def publish(self, to: str, data: bytes, **attributes: str) -> str:
        path = self.publisher.topic_path(PROJECT, to)
        messages = [types.PubsubMessage(data=data, attributes=attributes)]
        return str(self.publisher.publish(topic=path, messages=messages).message_ids[0])

    def pull(self, subscription: str) -> list[Any]:
        """Messages that are there, acknowledged."""
        path = self.subscriber.subscription_path(PROJECT, subscription)
        found = self.subscriber.pull(
            request={"subscription": path, "max_messages": 100, "return_immediately": True}, timeout=30
        ).received_messages
        if found:
            self.subscriber.acknowledge(subscription=path, ack_ids=[one.ack_id for one in found])
        return [one.message for one in found]

    def alerts(self) -> list[Row]:
        """What was raised since it was asked last."""
        return [json.loads(message.data) for message in self.pull("alert-response")]

    def dead(self, subscription: str) -> list[Any]:
        """Dead letters since it was asked last."""
        return self.pull(dead_letters(subscription))

    def gather(self, ask: Callable[[], list[T]], count: int, what: str) -> list[T]:
        """So many of what `alerts` or `dead` give, once they are there."""
        found: list[T] = []

        def is_there() -> bool:
            found.extend(ask())
            return len(found) >= count

        until(is_there, what)
        return found

    def token(self, audience: str, account: str = ACCOUNT) -> str:
        """One that Pub/Sub would sign."""
        return Signer(self.pubsub.folder / "state" / "push.pem").token(account, audience)

    def end(self) -> None:
        for one in self.functions.values():
            if hasattr(one, "process"):
                one.kill()
        self.channel.close()
