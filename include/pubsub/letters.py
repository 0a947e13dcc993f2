"""`python -m include.pubsub.letters --project P [--again SUBSCRIPTION]`: what takers refused in all their attempts.

Without --again: how many there are by subscription, and the oldest. With it: those of the subscription are published to
its topic once more, each acknowledged when Pub/Sub has taken it. Whoever else subscribes to the topic gets them too:
all takers know what they have had.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PubsubMessage

from include.pubsub.topology import Topology, dead_letters, read

AT_ONCE = 100
TIMEOUT_S = 30.0
OF_THE_LETTER = "CloudPubSubDeadLetter"  # what Pub/Sub adds to a message that dies


def listed(project: str, topology: Topology) -> Iterator[str]:
    """A line for each subscription that has letters, of which AT_ONCE are counted. They stay where they are. Raises
    GoogleAPICallError."""
    _, subscriber = _clients()
    for name in topology.subscriptions:
        if found := _pull(subscriber, path := subscriber.subscription_path(project, dead_letters(name))):
            _put_back(subscriber, path, found)
            oldest = min(one.message.publish_time for one in found)
            number = f"{AT_ONCE} or more" if len(found) == AT_ONCE else f"{len(found)}"
            yield f"{name}: {number}, the oldest of {oldest:%Y-%m-%d %H:%M:%S} UTC"


def again(project: str, topology: Topology, name: str) -> int:
    """Publishes a subscription's letters anew; returns how many. One that dies meanwhile is left. Raises ValueError for
    a subscription that is not in the topology, GoogleAPICallError."""
    if name not in topology.subscriptions:
        raise ValueError(f"there is no subscription {name!r}; there are {', '.join(topology.subscriptions)}")
    began, sent = datetime.now(UTC), 0
    publisher, subscriber = _clients()
    topic = publisher.topic_path(project, topology.subscriptions[name].topic)
    path = subscriber.subscription_path(project, dead_letters(name))
    while received := _pull(subscriber, path):
        found = [one for one in received if one.message.publish_time < began]
        _put_back(subscriber, path, [one for one in received if one not in found])
        for one in found:
            message = PubsubMessage(data=one.message.data, attributes=_attributes(one.message))
            publisher.publish(topic=topic, messages=[message], timeout=TIMEOUT_S)
            subscriber.acknowledge(subscription=path, ack_ids=[one.ack_id])
        sent += len(found)
        if not found:
            break
    return sent


def _clients() -> tuple[PublisherClient, SubscriberClient]:
    """Generated clients: an attribute may have any name, and a message may be as large as Pub/Sub takes it."""
    if not (emulator := os.environ.get("PUBSUB_EMULATOR_HOST")):
        return PublisherClient(), SubscriberClient()
    channel = grpc.insecure_channel(emulator, [("grpc.max_receive_message_length", -1)])
    publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    return publisher, SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))


def _pull(subscriber: SubscriberClient, path: str) -> list[Any]:
    request = {"subscription": path, "max_messages": AT_ONCE, "return_immediately": True}
    return list(subscriber.pull(request=request, timeout=TIMEOUT_S).received_messages)


def _put_back(subscriber: SubscriberClient, path: str, found: list[Any]) -> None:
    if found:
        ids = [one.ack_id for one in found]
        subscriber.modify_ack_deadline(subscription=path, ack_ids=ids, ack_deadline_seconds=0)


def _attributes(message: Any) -> dict[str, str]:
    return {name: value for name, value in message.attributes.items() if not name.startswith(OF_THE_LETTER)}


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m include.pubsub.letters", description="Dead letters of Pub/Sub.")
    parser.add_argument("--project", required=True)
    parser.add_argument("--again", default="", metavar="SUBSCRIPTION", help="sends those of a subscription once more")
    arguments = parser.parse_args()
    try:
        if arguments.again:
            sys.stdout.write(f"{again(arguments.project, read(), arguments.again)} sent again\n")
        else:
            lines = list(listed(arguments.project, read()))
            sys.stdout.write("".join(f"{line}\n" for line in lines or ["no dead letters"]))
    except (GoogleAPICallError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
