"""google.pubsub.v1 over gRPC: Publisher and Subscriber, as the client library calls them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

from local.pubsub.broker import Broker
from local.pubsub.refusal import Refusal, invalid
from local.pubsub.store import Store
from local.pubsub.subscription import MOST_HELD, Subscription

PULL_WAIT_S = 5.0
MOST_OUTSTANDING = 1000
Context: TypeAlias = grpc.aio.ServicerContext
Empty = empty_pb2.Empty


def pb(name: str) -> Any:
    return getattr(types, name).pb()


def handlers(broker: Broker, store: Store) -> list[grpc.GenericRpcHandler]:
    """Both services. A reply is sent when what the request has changed is durable."""

    def create_topic(request: Any) -> Any:
        return broker.create_topic(request)

    def update_topic(request: Any) -> Any:
        return broker.update_topic(request.topic, request.update_mask)

    def get_topic(request: Any) -> Any:
        return broker.topic(request.topic)

    def list_topics(request: Any) -> Any:
        found = [one for name, one in sorted(broker.topics.items()) if name.startswith(f"{request.project}/")]
        return pb("ListTopicsResponse")(topics=found)

    def list_topic_subscriptions(request: Any) -> Any:
        names = sorted(one.proto.name for one in broker.of_topic(broker.topic(request.topic).name))
        return pb("ListTopicSubscriptionsResponse")(subscriptions=names)

    def delete_topic(request: Any) -> Any:
        broker.delete_topic(request.topic)
        return Empty()

    def publish(request: Any) -> Any:
        return pb("PublishResponse")(message_ids=broker.publish(request.topic, list(request.messages)))

    def create_subscription(request: Any) -> Any:
        return broker.create_subscription(request)

    def get_subscription(request: Any) -> Any:
        return broker.subscription(request.subscription).proto

    def update_subscription(request: Any) -> Any:
        return broker.update_subscription(request.subscription, request.update_mask)

    def list_subscriptions(request: Any) -> Any:
        found = sorted(broker.subscriptions.items())
        mine = [one.proto for name, one in found if name.startswith(f"{request.project}/")]
        return pb("ListSubscriptionsResponse")(subscriptions=mine)

    def delete_subscription(request: Any) -> Any:
        broker.delete_subscription(request.subscription)
        return Empty()

    def acknowledge(request: Any) -> Any:
        broker.subscription(request.subscription).ack(list(request.ack_ids))
        return Empty()

    def modify_ack_deadline(request: Any) -> Any:
        subscription = broker.subscription(request.subscription)
        for ack_id in request.ack_ids:
            subscription.extend(ack_id, request.ack_deadline_seconds)
        return Empty()

    def modify_push_config(request: Any) -> Any:
        broker.modify_push(request.subscription, request.push_config)
        return Empty()

    async def pull(request: Any, context: Context) -> Any:
        subscription = broker.subscription(request.subscription)
        if request.max_messages < 1:
            raise invalid("max_messages must be at least 1")
        left_s = context.time_remaining()
        wait_s = 0.0 if request.return_immediately else min(PULL_WAIT_S, (left_s or PULL_WAIT_S) * 0.9)
        return pb("PullResponse")(received_messages=await _pull(subscription, request.max_messages, wait_s))

    publisher = {
        "CreateTopic": (create_topic, pb("Topic")),
        "UpdateTopic": (update_topic, pb("UpdateTopicRequest")),
        "GetTopic": (get_topic, pb("GetTopicRequest")),
        "ListTopics": (list_topics, pb("ListTopicsRequest")),
        "ListTopicSubscriptions": (list_topic_subscriptions, pb("ListTopicSubscriptionsRequest")),
        "DeleteTopic": (delete_topic, pb("DeleteTopicRequest")),
        "Publish": (publish, pb("PublishRequest")),
    }
    subscriber = {
        "CreateSubscription": (create_subscription, pb("Subscription")),
        "GetSubscription": (get_subscription, pb("GetSubscriptionRequest")),
        "UpdateSubscription": (update_subscription, pb("UpdateSubscriptionRequest")),
        "ListSubscriptions": (list_subscriptions, pb("ListSubscriptionsRequest")),
        "DeleteSubscription": (delete_subscription, pb("DeleteSubscriptionRequest")),
        "Acknowledge": (acknowledge, pb("AcknowledgeRequest")),
        "ModifyAckDeadline": (modify_ack_deadline, pb("ModifyAckDeadlineRequest")),
        "ModifyPushConfig": (modify_push_config, pb("ModifyPushConfigRequest")),
    }

    def method(answer: Callable[[Any], Any]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def run(request: Any, context: Context) -> Any:
            try:
                reply = answer(request)
            except Refusal as refusal:
                return await context.abort(refusal.code, str(refusal))
            await store.committed()
            return reply

        return run

    async def checked_pull(request: Any, context: Context) -> Any:
        try:
            return await pull(request, context)
        except Refusal as refusal:
            return await context.abort(refusal.code, str(refusal))

    async def streaming_pull(_: Any, context: Context) -> None:
        first = await context.read()
        try:
            subscription = broker.subscription(first.subscription)
        except Refusal as refusal:
            await context.abort(refusal.code, str(refusal))
        await _Stream(subscription, first, context).serve()

    def unary(run: Callable[[Any, Context], Awaitable[Any]], request: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(run, request.FromString, _serialised)

    services = {
        "Publisher": {name: unary(method(answer), request) for name, (answer, request) in publisher.items()},
        "Subscriber": {
            **{name: unary(method(answer), request) for name, (answer, request) in subscriber.items()},
            "Pull": unary(checked_pull, pb("PullRequest")),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                streaming_pull, pb("StreamingPullRequest").FromString, _serialised
            ),
        },
    }
    return [
        grpc.method_handlers_generic_handler(f"google.pubsub.v1.{name}", methods) for name, methods in services.items()
    ]


class _Stream:
    """A streaming pull: messages go out, acknowledgements and deadlines come in over the same connection."""

    def __init__(self, subscription: Subscription, first: Any, context: Context) -> None:
        self._subscription = subscription
        self._context = context
        self._deadline_s = float(first.stream_ack_deadline_seconds or subscription.deadline_s)
        self._most = first.max_outstanding_messages or MOST_OUTSTANDING
        self._most_bytes = first.max_outstanding_bytes or 0
        self._mine: dict[str, int] = {}  # ack id -> bytes

    async def serve(self) -> None:
        """Until the client is gone."""
        greeting = pb("StreamingPullResponse")()
        greeting.subscription_properties.message_ordering_enabled = self._subscription.proto.enable_message_ordering
        await self._context.write(greeting)
        event = self._subscription.listen()
        reader = asyncio.create_task(self._read())
        try:
            while not reader.done():
                event.clear()
                if taken := self._take():
                    await self._context.write(pb("StreamingPullResponse")(received_messages=taken))
                else:
                    news = asyncio.create_task(event.wait())
                    await asyncio.wait({news, reader}, return_when=asyncio.FIRST_COMPLETED)
                    news.cancel()
        finally:
            reader.cancel()
            self._subscription.leave(event)

    def _take(self) -> list[Any]:
        outstanding = self._subscription.backlog.outstanding
        self._mine = {ack_id: size for ack_id, size in self._mine.items() if ack_id in outstanding}
        room = self._most - len(self._mine)
        if room <= 0 or (self._most_bytes and sum(self._mine.values()) >= self._most_bytes):
            return []
        taken = self._subscription.take(min(room, MOST_HELD), self._deadline_s)
        self._mine.update((one.ack_id, one.message.ByteSize()) for one in taken)
        return taken

    async def _read(self) -> None:
        while (request := await self._context.read()) is not grpc.aio.EOF:
            self._deadline_s = float(request.stream_ack_deadline_seconds or self._deadline_s)
            for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
                self._subscription.extend(ack_id, seconds)
            if request.ack_ids:
                self._subscription.ack(list(request.ack_ids))


async def _pull(subscription: Subscription, most: int, wait_s: float) -> list[Any]:
    end = time.monotonic() + wait_s
    event = subscription.listen()
    try:
        while True:
            event.clear()
            taken = subscription.take(most, subscription.deadline_s)
            left_s = end - time.monotonic()
            if taken or left_s <= 0:
                return taken
            try:
                await asyncio.wait_for(event.wait(), left_s)
            except TimeoutError:
                return []
    finally:
        subscription.leave(event)


def _serialised(message: Any) -> bytes:
    return bytes(message.SerializeToString())
