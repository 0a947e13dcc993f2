"""A streaming job of a test's own: on Prism, over a broker and Pub/Sub of its own, seen through what it tells."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from google.cloud import pubsub_v1  # type: ignore[attr-defined]

from include import signals
from include.beam.live_sink import LETTERS, NOTICES
from tests.stand_ins import Broker, Process, PubSub

PROJECT = "madhatter"
TOLD = (*sorted(set(signals.TOPICS.values())), NOTICES, LETTERS)


@dataclass
class Live(Process):
    """`python -m include.beam.live` with the flags of local/dataflow/images.toml."""

    broker: Broker | None = None
    pubsub: PubSub | None = None
    snapshot: str | None = None

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def options(self) -> list[str]:
        assert self.broker is not None
        options = [f"--bootstrap_servers={self.broker.bootstrap}", f"--store={self.store.as_uri()}"]
        options.append(f"--project={PROJECT}")
        return [*options, f"--snapshot={self.snapshot}"] if self.snapshot else options

    def launch(self) -> None:
        from local.dataflow.__main__ import IMAGES
        from local.dataflow.templates import filled, read_images

        assert self.pubsub is not None
        self.store.mkdir(exist_ok=True)
        flags = filled(read_images(IMAGES)["live"].options)
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env |= {"PUBSUB_EMULATOR_HOST": self.pubsub.address, "TMPDIR": str(self.folder), "MALLOC_ARENA_MAX": "2"}
        self.run([sys.executable, "-m", "include.beam.live", *self.options(), *flags, "--job_name=live"], env)

    def prisms(self) -> list[psutil.Process]:
        """The runner's process, while there is one."""
        assert self.started is not None
        try:
            return [one for one in psutil.Process(self.started.pid).children(recursive=True) if one.name() == "prism"]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """Ends the runner too, as the Dataflow stand-in does."""
        prisms = self.prisms()
        super().end()
        for one in prisms:
            if one.is_running():
                one.kill()

    @property
    def final_until(self) -> str:
        """Minutes before are final; empty before the first."""
        position = self.store / "live" / "position.json"
        return str(json.loads(position.read_text())["final_until"]) if position.exists() else ""


@dataclass
class Told:
    """What the job has told Pub/Sub, by topic, in the order of arrival, doubles included."""

    pubsub: PubSub
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {topic: [] for topic in TOLD})

    def __post_init__(self) -> None:
        os.environ["PUBSUB_EMULATOR_HOST"] = self.pubsub.address
        publisher, self.subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        for topic in TOLD:
            publisher.create_topic(name=publisher.topic_path(PROJECT, topic))
            self.subscriber.create_subscription(
                name=self._subscription(topic), topic=publisher.topic_path(PROJECT, topic)
            )

    def _subscription(self, topic: str) -> str:
        return f"projects/{PROJECT}/subscriptions/{topic}"

    def of(self, topic: str) -> list[dict[str, Any]]:
        """All messages of a topic so far."""
        name = self._subscription(topic)
        while received := self.subscriber.pull(
            subscription=name, max_messages=1000, return_immediately=True
        ).received_messages:
            self.messages[topic] += [json.loads(one.message.data) for one in received]
            self.subscriber.acknowledge(subscription=name, ack_ids=[one.ack_id for one in received])
        return self.messages[topic]

    def signals(self) -> list[dict[str, Any]]:
        """All signals so far."""
        return [signal for topic in sorted(set(signals.TOPICS.values())) for signal in self.of(topic)]
