"""The collector: web and mobile apps POST batches of events, and get an answer when the events are safe.

    python -m functions_framework --target collect --source include/functions/collector/main.py --port 18087

POST /<topic> with X-API-Key and {"events": [...]}: 202 when all are taken, 207 with a result for each event when some
are not. docs/how-to/collect-over-http.md has all answers.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from functools import cache
from typing import Any, cast

import flask

from include.acceptance import refusals
from include.contracts.contract import topics
from include.functions import lines
from include.functions.collector import batch
from include.functions.collector.batch import Refused
from include.functions.collector.delivery import Delivery
from include.functions.collector.senders import Senders
from include.functions.collector.settings import Settings, SettingsError, read
from include.functions.collector.spool import Spool, SpoolFull
from include.producing import key_of

GUNICORN_BOOT_ERROR = 3  # makes gunicorn end instead of starting the next child
RETRY_S = 30  # what a full spool asks senders to wait
log = lines.logger("collector")


def _settings() -> Settings:
    try:
        return read()
    except SettingsError as error:
        raise SystemExit(f"collector: {error}") from None


SETTINGS = _settings()
SENDERS = Senders(SETTINGS.senders, SETTINGS.rate)
KEY_OF = cache(key_of)
_starting = threading.Lock()


@cache
def _delivery() -> Delivery:
    spool = Spool(SETTINGS.spool, SETTINGS.spool_bytes)
    return Delivery(SETTINGS.kafka, spool, SETTINGS.wait_s)


def delivery() -> Delivery:
    """This process's way to Kafka, opened once."""
    with _starting:
        return _delivery()


def _start() -> None:
    """Opens the spool, so that what a former process has left there is sent without waiting for a request."""
    threading.Thread(target=_open_or_end, name="start", daemon=True).start()


def _open_or_end() -> None:
    try:
        delivery()
    except Exception:
        log.critical("the collector cannot start", exc_info=True)
        os._exit(GUNICORN_BOOT_ERROR)


# gunicorn loads this module in its parent and answers in a child: neither threads nor connections survive the fork.
os.register_at_fork(after_in_child=_start)


def collect(request: flask.Request) -> flask.Response:
    """Answers one request. The function's target."""
    started = time.monotonic()
    fields: dict[str, Any] = {"method": request.method, "path": request.path}
    try:
        response = _answer(request, fields)
    except Refused as error:
        response = _reply(error.status, {"error": str(error)})
        if error.status == 405:
            response.headers["Allow"] = "GET, POST, OPTIONS"
    except SpoolFull as error:
        log.error("%s: requests are turned away", error)
        response = _reply(503, {"error": "Kafka is away and the spool is full: send the same events again later"})
        response.headers["Retry-After"] = str(RETRY_S)
    _allow_origin(request, response)
    if request.method == "POST":
        fields |= {"status": response.status_code, "ms": round((time.monotonic() - started) * 1000)}
        log.info("%s %s", request.path, response.status_code, extra={"request": fields})
    return response


def _answer(request: flask.Request, fields: dict[str, Any]) -> flask.Response:
    origin = request.headers.get("Origin")
    if origin and origin not in SETTINGS.origins:
        raise Refused(403, f"pages of {origin} may not send here: MADHATTER_COLLECTOR_ORIGINS lists those that may")
    if request.method == "OPTIONS":
        return flask.Response(iter(()), 204)
    if request.method in ("GET", "HEAD") and request.path in ("/", "/health"):
        return _reply(200, {"status": "ok", "spooled": delivery().waiting})
    if request.method != "POST":
        raise Refused(405, "send events with POST /<topic>")
    sender = SENDERS.find(request.headers.get("X-API-Key", ""))
    if sender is None:
        raise Refused(401, "X-API-Key is missing or unknown")
    topic = request.path.strip("/")
    fields |= {"sender": sender, "topic": topic}
    if topic not in topics():
        raise Refused(404, f"there is no topic {topic!r}; known are {', '.join(topics())}")
    if not SENDERS.may_send(sender, topic):
        raise Refused(403, f"the key of {sender} is not for {topic}")
    body = cast("Any", request.stream)
    values = batch.read(body, request.headers.get("Content-Type", ""), request.headers.get("Content-Encoding", ""))
    if wait_s := SENDERS.wait_s(sender, len(values)):
        response = _reply(429, {"error": f"over {SETTINGS.rate:g} events a second: wait {wait_s} s"})
        response.headers["Retry-After"] = str(wait_s)
        return response
    return _take(topic, values, fields)


def _take(topic: str, values: list[bytes], fields: dict[str, Any]) -> flask.Response:
    """Sends the events that the platform accepts, and says of each what came of it."""
    reasons = refusals(topic, values, time.time_ns() // 1_000_000)
    key = KEY_OF(topic)
    accepted = [index for index in range(len(values)) if index not in reasons]
    sent = delivery().send(topic, [(key(values[index]), values[index]) for index in accepted])
    for index, one in zip(accepted, sent, strict=True):
        if one.refusal:
            reasons[index] = f"Kafka refuses it: {one.refusal}"
    counts = {
        "accepted": len(values) - len(reasons),
        "rejected": len(reasons),
        "spooled": sum(one.number is not None and not one.is_delivered for one in sent),
    }
    fields |= counts
    if not reasons:
        return _reply(202, counts)
    fields["reasons"] = dict(Counter(reasons.values()).most_common(3))
    results = [
        {"index": index, "status": "rejected", "reason": reasons[index]}
        if index in reasons
        else {"index": index, "status": "accepted"}
        for index in range(len(values))
    ]
    return _reply(207, {**counts, "results": results})


def _reply(status: int, body: dict[str, Any]) -> flask.Response:
    """JSON, as a stream: before any other answer the framework reads a request's body to its end, whatever its size."""
    text = json.dumps(body) + "\n"
    return flask.Response(iter([text]), status, {"Content-Length": f"{len(text)}"}, content_type="application/json")


def _allow_origin(request: flask.Request, response: flask.Response) -> None:
    """Lets pages of the listed origins send and read the answer."""
    origin = request.headers.get("Origin")
    response.headers["Vary"] = "Origin"
    if origin not in SETTINGS.origins or origin is None:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "Retry-After"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "POST"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, Content-Encoding, X-API-Key"
        response.headers["Access-Control-Max-Age"] = "86400"
