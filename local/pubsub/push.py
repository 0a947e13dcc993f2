"""Push subscriptions: one request a message, more at once while the endpoint keeps up, fewer when it does not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any

import aiohttp

from local.pubsub.subscription import Subscription
from local.pubsub.tokens import Signer

ACKNOWLEDGED = (102, 200, 201, 202, 204)
WINDOW = (3, 64)  # requests at once: it begins with the least, doubles with each success of a window, halves on failure


class Pusher:
    """Follows subscriptions that have an endpoint."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._client: aiohttp.ClientSession | None = None

    @property
    def is_running(self) -> bool:
        return self._client is not None

    def start(self) -> None:
        """To be called in a running loop."""
        self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._client is not None:
            await self._client.close()

    def follow(self, subscription: Subscription) -> None:
        """Pushes from now on as the subscription says now, or no longer."""
        self.stop(subscription.proto.name)
        if subscription.proto.push_config.push_endpoint:
            task = asyncio.get_running_loop().create_task(self._push(subscription))
            self._tasks[subscription.proto.name] = task

    def stop(self, name: str) -> None:
        if task := self._tasks.pop(name, None):
            task.cancel()

    async def _push(self, subscription: Subscription) -> None:
        window = float(WINDOW[0])
        out: set[asyncio.Task[bool]] = set()
        event = subscription.listen()
        try:
            while True:
                event.clear()
                for received in subscription.take(int(window) - len(out), subscription.deadline_s):
                    out.add(asyncio.create_task(self._deliver(subscription, received)))
                news = asyncio.create_task(event.wait())
                done, _ = await asyncio.wait({*out, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                for task in out & done:
                    window = min(WINDOW[1], window + 1) if _is_taken(task) else max(WINDOW[0], window / 2)
                out -= done
        finally:
            subscription.leave(event)
            for task in out:
                task.cancel()

    async def _deliver(self, subscription: Subscription, received: Any) -> bool:
        assert self._client is not None
        config = subscription.proto.push_config
        is_taken = False
        timeout = aiohttp.ClientTimeout(total=subscription.deadline_s)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._client.post(
                config.push_endpoint,
                json=_body(subscription, received),
                headers=self._headers(config),
                timeout=timeout,
                allow_redirects=False,
            ) as reply:
                await reply.read()
                is_taken = reply.status in ACKNOWLEDGED
        if is_taken:
            subscription.ack([received.ack_id])
        else:
            subscription.nack(received.ack_id)
        return is_taken

    def _headers(self, config: Any) -> dict[str, str]:
        if not config.HasField("oidc_token"):
            return {}
        token = config.oidc_token
        signed = self._signer.token(token.service_account_email, token.audience or config.push_endpoint)
        return {"Authorization": f"Bearer {signed}"}


def _is_taken(task: asyncio.Task[bool]) -> bool:
    """Whether a delivery was acknowledged. One that failed in itself ends no other, its deadline brings it again."""
    if error := task.exception():
        print(f"pubsub: a message was not delivered: {error!r}", flush=True)
        return False
    return task.result()


def _body(subscription: Subscription, received: Any) -> dict[str, Any]:
    """https://cloud.google.com/pubsub/docs/push#receive_push"""
    message = received.message
    published = message.publish_time.ToJsonString()
    wrapped: dict[str, Any] = {
        "data": base64.b64encode(message.data).decode(),
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published,
        "publish_time": published,
    }
    if message.attributes:
        wrapped["attributes"] = dict(message.attributes)
    if message.ordering_key:
        wrapped["orderingKey"] = message.ordering_key
    body = {"message": wrapped, "subscription": subscription.proto.name}
    if received.delivery_attempt:
        body["deliveryAttempt"] = received.delivery_attempt
    return body
