"""Takes events of partners: what the topic's contract accepts goes to Kafka, what it does not is refused with words.

    python -m functions_framework --target event_validation --source include/functions/event_validation/main.py

By HTTP as the collector has it: POST /<topic> with X-API-Key and {"events": [...]}; 202 when all are taken, 207 with a
result for each event when some are not, 503 when Kafka is away: nothing is kept here, send them again.
By Pub/Sub, the topic `events.partner`: the event as data and its topic as attribute `topic`, or {"topic": ..., "event":
{...}} as data. One that is refused becomes a dead letter.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any, cast

import flask
import msgspec
from msgspec import Raw, Struct

from include.acceptance import refusals
from include.contracts.contract import topics
from include.functions import pushed
from include.functions.collector import batch
from include.functions.collector.senders import Senders
from include.functions.collector.settings import Sender
from include.functions.event_validation import sending
from include.functions.pushed import Message, Refused, reply

NAME = "event_validation"
PARTNERS = "MADHATTER_PARTNER_KEYS"
EVENTS_PER_S = 500  # of one partner, on average


class Envelope(Struct, forbid_unknown_fields=True):
    """A message whose topic is in its data."""

    topic: str
    event: Raw


def _partners() -> dict[str, Sender]:
    try:
        return msgspec.json.decode(os.environ[PARTNERS], type=dict[str, Sender])
    except (KeyError, msgspec.MsgspecError) as error:
        example = '{"partner": {"key": "16 characters or more", "topics": ["sales.orders"]}}'
        raise SystemExit(f"{NAME}: {PARTNERS} is not JSON such as {example}: {error!r}") from None


KNOWN = _partners()
SENDERS = Senders(KNOWN, EVENTS_PER_S)
# Who may publish to events.partner is Pub/Sub's to say; for which topics, what is agreed with any partner.
AGREED = frozenset(topic for sender in KNOWN.values() for topic in sender.topics)
sending.connection()
decode = msgspec.json.Decoder(Envelope).decode


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    topic, value = message.attributes.get("topic", ""), message.data
    if not topic:
        envelope = message.decode(decode, "event of a partner without the attribute topic")
        topic, value = envelope.topic, bytes(envelope.event)
    fields["topic"] = topic[:100]
    if topic not in AGREED:
        fields["rejected"] = 1
        raise Refused(f"topic {topic[:100]!r} is not one that partners send: {', '.join(sorted(AGREED))}", 404)
    reasons = _sent(topic, [value])
    if reasons:
        fields["rejected"] = 1
        raise Refused(f"{topic} does not take it: {reasons[0]}", 422)
    fields["accepted"] = 1


def answer(request: flask.Request, fields: dict[str, Any]) -> flask.Response:
    """A partner's own request. Raises Refused, Passing."""
    sender = SENDERS.find(request.headers.get("X-API-Key", ""))
    if sender is None:
        raise Refused("X-API-Key is missing or unknown", 401)
    topic = request.path.strip("/")
    fields |= {"sender": sender, "topic": topic[:100]}
    if topic not in topics():
        raise Refused(f"there is no topic {topic[:100]!r}; known are {', '.join(topics())}", 404)
    if not SENDERS.may_send(sender, topic):
        raise Refused(f"the key of {sender} is not for {topic}", 403)
    body = cast("Any", request.stream)
    try:
        values = batch.read(body, request.headers.get("Content-Type", ""), request.headers.get("Content-Encoding", ""))
    except batch.Refused as error:
        raise Refused(str(error), error.status) from None
    if wait_s := SENDERS.wait_s(sender, len(values)):
        response = reply(429, {"error": f"over {EVENTS_PER_S} events a second: wait {wait_s} s"})
        response.headers["Retry-After"] = str(wait_s)
        return response
    reasons = _sent(topic, values)
    counts = {"accepted": len(values) - len(reasons), "rejected": len(reasons)}
    fields |= counts
    if not reasons:
        return reply(202, counts)
    fields["reasons"] = dict(Counter(reasons.values()).most_common(3))
    results = [
        {"index": index, "status": "rejected", "reason": reasons[index]}
        if index in reasons
        else {"index": index, "status": "accepted"}
        for index in range(len(values))
    ]
    return reply(207, {**counts, "results": results})


def _sent(topic: str, values: list[bytes]) -> dict[int, str]:
    """Index in values -> why it was not taken."""
    reasons = refusals(topic, values, time.time_ns() // 1_000_000)
    accepted = [index for index in range(len(values)) if index not in reasons]
    refused = sending.send(topic, [values[index] for index in accepted])
    return reasons | {accepted[index]: reason for index, reason in refused.items()}


event_validation = pushed.function(NAME, take, other=answer)
