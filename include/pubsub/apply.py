"""Makes a project's topics and subscriptions what the topology says. What it does not name is left alone.

In production Pub/Sub's own service account needs `pubsub.publisher` on the dead-letter topics and `pubsub.subscriber`
on the subscriptions, or dead letters stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.api_core.exceptions import NotFound
from google.cloud import pubsub_v1  # type: ignore[attr-defined]
from google.protobuf import field_mask_pb2
from google.pubsub_v1 import types

from include.pubsub.topology import Subscription, Topology, dead_letters

# A second after a function has died there is another one; what is away for longer is asked once a minute.
BACKOFF_S = (1, 60)
LETTERS_KEPT_S = 31 * 86400
LETTERS_DEADLINE_S = 60
OURS = (
    "push_config",
    "ack_deadline_seconds",
    "message_retention_duration",
    "expiration_policy",
    "dead_letter_policy",
    "retry_policy",
)


class Misplaced(RuntimeError):
    """A subscription that cannot be changed into what it should be: what to do."""


def apply(project: str, topology: Topology, functions: Mapping[str, str], account: str) -> Iterator[str]:
    """Creates and updates; yields a line for each thing that was done, none when all is as it should be.

    functions: name -> address; account: the service account in whose name Pub/Sub calls. Raises ValueError when a
    function has no address, Misplaced, and google.api_core.exceptions.GoogleAPICallError.
    """
    if missing := set(topology.functions) - set(functions):
        raise ValueError(f"no address for function {', '.join(sorted(missing))}: give it with --functions")
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    with subscriber:
        letters = [dead_letters(name) for name in topology.subscriptions]
        there = {topic.name for topic in publisher.list_topics(project=f"projects/{project}")}
        for name in (*topology.topics, *letters):
            if (path := publisher.topic_path(project, name)) not in there:
                publisher.create_topic(name=path)
                yield f"topic {name} created"
        # Dead letters first: none may come while nobody keeps them.
        wanted = [_keeper(project, name) for name in topology.subscriptions]
        wanted += [
            _subscription(project, name, one, topology.topics[one.topic], functions, account)
            for name, one in topology.subscriptions.items()
        ]
        for one in wanted:
            if said := _make(subscriber, one):
                yield said
    publisher.stop()


def _make(subscriber: Any, wanted: types.Subscription) -> str:
    name = wanted.name.rsplit("/", 1)[1]
    try:
        found = subscriber.get_subscription(subscription=wanted.name)
    except NotFound:
        subscriber.create_subscription(request=wanted)
        return f"subscription {name} created"
    if found.topic != wanted.topic:
        raise Misplaced(
            f"subscription {name} is one of {found.topic}, not of {wanted.topic}, and cannot be moved: take what it "
            "has, delete it, and run this again"
        )
    masked = [field for field in OURS if getattr(found, field) != getattr(wanted, field)]
    if not masked:
        return ""
    subscriber.update_subscription(subscription=wanted, update_mask=field_mask_pb2.FieldMask(paths=masked))
    return f"subscription {name}: {', '.join(masked)} changed"


def _keeper(project: str, name: str) -> types.Subscription:
    """The subscription that keeps the dead letters of another one, for people."""
    letters = dead_letters(name)
    return types.Subscription(
        name=f"projects/{project}/subscriptions/{letters}",
        topic=f"projects/{project}/topics/{letters}",
        ack_deadline_seconds=LETTERS_DEADLINE_S,
        message_retention_duration={"seconds": LETTERS_KEPT_S},
        expiration_policy={},  # never
    )


def _subscription(
    project: str, name: str, one: Subscription, days: int, functions: Mapping[str, str], account: str
) -> types.Subscription:
    letters = f"projects/{project}/topics/{dead_letters(name)}"
    made = types.Subscription(
        name=f"projects/{project}/subscriptions/{name}",
        topic=f"projects/{project}/topics/{one.topic}",
        ack_deadline_seconds=one.deadline_s,
        message_retention_duration={"seconds": days * 86400},
        expiration_policy={},
        dead_letter_policy={"dead_letter_topic": letters, "max_delivery_attempts": one.attempts},
        retry_policy={"minimum_backoff": {"seconds": BACKOFF_S[0]}, "maximum_backoff": {"seconds": BACKOFF_S[1]}},
    )
    if one.push:
        token = {"service_account_email": account, "audience": functions[one.push]}
        made.push_config = types.PushConfig(push_endpoint=functions[one.push], oidc_token=token)
    return made
