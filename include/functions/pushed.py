"""A function that Pub/Sub pushes to: who calls, what it brings, and what is answered.

    def take(message: Message, fields: dict[str, Any]) -> None: ...
    fraud_detection = pushed.function("fraud_detection", take)

| what happens | answer | and then |
|---|---|---|
| take returns | 204 | the message is done |
| Refused: malformed, not for us | its 4xx, with words | it comes again, and after its attempts is a dead letter |
| Passing: something else is away | 503 | it comes again, later each time |
| any other exception | 500, logged whole | it comes again |
| forged, unsigned, too large | 401, 413 | whoever sent it is told why |

Every answer is a line in the log, and counted: GET / says how many there were of each.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import flask
import msgspec
from msgspec import Struct
from werkzeug.exceptions import ClientDisconnected

from include.functions import lines
from include.functions.tokens import Caller, Forged, Unverifiable

# The largest message of Pub/Sub, 10 MB, in base64 with its attributes.
BODY_BYTES = 15 << 20
DATA_BYTES = 1 << 20  # what our own topics carry is smaller by far
RECENT_S = 600
CERTS = "https://www.googleapis.com/oauth2/v3/certs"
TRACE_ID = re.compile("[0-9a-f]{32}")
T = TypeVar("T")


class Refused(ValueError):
    """A request or message that will never be taken: why. status: its HTTP status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Passing(RuntimeError):
    """What a message needs is away: it shall come again."""


@dataclass(frozen=True)
class Message:
    """What Pub/Sub brings. attempt: of which delivery this is, from 1; 0 where the subscription does not count."""

    data: bytes
    attributes: Mapping[str, str]
    message_id: str
    subscription: str
    attempt: int

    def decode(self, decoder: Callable[[bytes], T], what: str) -> T:
        """What data holds. Raises Refused."""
        try:
            return decoder(self.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"no {what}: {error}") from None


class _Wrapped(Struct):
    data: bytes = b""
    attributes: dict[str, str] = {}
    messageId: str = ""


class _Push(Struct):
    """https://cloud.google.com/pubsub/docs/push#receive_push"""

    message: _Wrapped
    subscription: str
    deliveryAttempt: int = 0


Take = Callable[[Message, dict[str, Any]], None]
Tick = Callable[[dict[str, Any]], None]
Answer = Callable[[flask.Request, dict[str, Any]], flask.Response]


class Answers:
    """How many requests ended how, since the process began; the failures of the last minutes by themselves."""

    def __init__(self) -> None:
        self._started, self._counts = time.time(), Counter[str]()
        self._failed: deque[float] = deque(maxlen=1000)

    def count(self, status: int, fields: Mapping[str, Any]) -> None:
        """fields: of the log line; events that were accepted and rejected are counted too."""
        self._counts[f"{status}"] += 1
        for name in ("accepted", "rejected"):
            self._counts[name] += fields.get(name, 0)
        if status >= 500:
            self._failed.append(time.time())

    def __call__(self) -> dict[str, Any]:
        recent = sum(at > time.time() - RECENT_S for at in tuple(self._failed))
        counts = {name: count for name, count in self._counts.items() if count}
        up_s = round(time.time() - self._started)
        return {"status": "ok", "up_s": up_s, "answers": counts, "failed_recently": recent}


def caller(name: str, environment: Mapping[str, str] = os.environ) -> Caller:
    """Who may call the function, by the settings. Raises SystemExit that names what is missing."""
    try:
        audience = json.loads(environment["MADHATTER_FUNCTIONS"])[name]
        account = environment["MADHATTER_PUSH_ACCOUNT"]
    except KeyError as error:
        raise SystemExit(
            f"{name}: {error} is not set: give MADHATTER_PUSH_ACCOUNT, the service account that pushes, and "
            f'MADHATTER_FUNCTIONS, JSON such as {{"{name}": "https://its-address"}}'
        ) from None
    except ValueError as error:
        raise SystemExit(f"{name}: MADHATTER_FUNCTIONS is no JSON: {error}") from None
    return Caller(str(audience), account, environment.get("MADHATTER_PUSH_CERTS", CERTS))


def function(
    name: str,
    take: Take,
    *,
    tick: Tick | None = None,
    other: Answer | None = None,
    data_bytes: int = DATA_BYTES,
) -> Callable[[flask.Request], flask.Response]:
    """The function's target. take: does what a message asks for; what it puts into `fields` its log line has.

    tick: called by an empty POST, of a scheduler. other: answers POST to any other path than /, without a token.
    """
    log, known, answers = lines.logger(name), caller(name), Answers()

    def answer(request: flask.Request, fields: dict[str, Any]) -> flask.Response:
        if request.method in ("GET", "HEAD"):
            return reply(200, answers())
        if request.method != "POST":
            raise Refused("send POST", 405)
        if other is not None and request.path != "/":
            return other(request, fields)
        known.verify(request.headers.get("Authorization"))
        body = read(request, BODY_BYTES)
        if tick is not None and not body:
            tick(fields)
        else:
            message = _unwrap(body, data_bytes)
            fields |= {"message_id": message.message_id, "attempt": message.attempt}
            if TRACE_ID.fullmatch(trace_id := message.attributes.get("trace_id", "")):
                fields["trace_id"] = trace_id
            take(message, fields)
        return flask.Response(status=204)

    def target(request: flask.Request) -> flask.Response:
        started = time.monotonic()
        fields: dict[str, Any] = {}
        try:
            response = answer(request, fields)
        except (Refused, Forged) as error:
            status = error.status if isinstance(error, Refused) else 401
            response = reply(status, {"error": str(error)})
            fields["error"] = str(error)
        except (Passing, Unverifiable) as error:
            response = reply(503, {"error": str(error)})
            fields["error"] = str(error)
        except ClientDisconnected:
            response = reply(400, {"error": "the body ended early"})
        except Exception as error:
            log.error("failed: %s", error, exc_info=True, extra={"request": fields})
            response = reply(500, {"error": f"{type(error).__name__}: the log has it"})
        if request.method == "POST":
            answers.count(response.status_code, fields)
            fields |= {"status": response.status_code, "ms": round((time.monotonic() - started) * 1000, 1)}
            code = response.status_code
            level = logging.INFO if code < 400 else logging.WARNING if code < 500 else logging.ERROR
            log.log(level, "%s %s", name, code, extra={"request": fields})
        return response

    return target


def read(request: flask.Request, limit_bytes: int) -> bytes:
    """The body. Raises Refused when it is larger; no more of it than limit_bytes is ever held."""
    stream = cast("Any", request.stream)
    if (request.content_length or 0) > limit_bytes or len(body := stream.read(limit_bytes + 1)) > limit_bytes:
        raise Refused(f"the body is over {limit_bytes} bytes", 413)
    return bytes(body)


def reply(status: int, body: Mapping[str, Any]) -> flask.Response:
    """JSON, as a stream: before any other answer the framework reads a request's body to its end, whatever its size."""
    text = json.dumps(body) + "\n"
    return flask.Response(iter([text]), status, {"Content-Length": f"{len(text)}"}, content_type="application/json")


def _unwrap(body: bytes, data_bytes: int) -> Message:
    try:
        push = msgspec.json.decode(body, type=_Push)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"no push of Pub/Sub: {error}") from None
    wrapped = push.message
    if len(wrapped.data) > data_bytes:
        raise Refused(f"a message of {len(wrapped.data)} bytes: at most {data_bytes} are taken", 413)
    return Message(wrapped.data, wrapped.attributes, wrapped.messageId, push.subscription, push.deliveryAttempt)
