"""How a function publishes: one message, on its way at once, and known to be taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import TimeoutError as Waited
from functools import cache
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.api_core.retry import Retry
from google.cloud import pubsub_v1  # type: ignore[attr-defined]

TIMEOUT_S = 10.0  # less than any subscription's deadline: the message then comes again


class NotPublished(RuntimeError):
    """Pub/Sub has not taken a message: which topic, and why."""


def publish(topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
    """Returns the message's id when Pub/Sub has it. Raises NotPublished; it may then have it all the same."""
    project = os.environ["MADHATTER_PROJECT"]
    client = _client()
    try:
        future = client.publish(
            client.topic_path(project, topic), data, retry=Retry(timeout=TIMEOUT_S), timeout=TIMEOUT_S, **attributes
        )
        return str(future.result(TIMEOUT_S))
    except (GoogleAPICallError, RetryError, Waited) as error:
        raise NotPublished(f"topic {topic} does not take a message: {error or type(error).__name__}") from error


@cache
def _client() -> Any:
    # Opened at the first message and not before: gunicorn forks, and gRPC does not survive that.
    return pubsub_v1.PublisherClient(batch_settings=pubsub_v1.types.BatchSettings(max_messages=1))
