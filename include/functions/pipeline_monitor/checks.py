"""What can be wrong with the live half: the job, its lag, the functions, dead letters.

A check asks one part and says what is wrong with it, or nothing. What it asks may be away: that is the part's failure,
never the check's.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.api_core.exceptions import ClientError, DeadlineExceeded, GoogleAPICallError, RetryError
from google.auth import exceptions
from google.cloud import pubsub_v1  # type: ignore[attr-defined]

from include.alerts import Severity
from include.functions.warehouse import Warehouse
from include.pubsub import topology
from include.pubsub.topology import dead_letters

JOB = "live"
ACTIVE = ("JOB_STATE_RUNNING", "JOB_STATE_QUEUED", "JOB_STATE_PENDING")
# Batches are written every 10 s; a job that begins anew, or is replaced, needs up to a minute and a half.
STALLED_S, LAG_S, NOT_FINAL_S = 180, 120, 420
LETTERS = 100  # that are looked at
TIMEOUT_S = 4.0
NEWEST = """
select
    max(written_ts) as written_ts, max(newest_arrival_ts) as arrival_ts, max(loaded_ts) as loaded_ts,
    max(final_until) as final_until, min(written_ts) as first_ts
from live.batch
"""


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a part. subject: the part, which has one alert of the kind."""

    kind: str
    subject: str
    severity: Severity
    title: str
    reasons: list[str]
    details: dict[str, Any] = field(default_factory=dict)


def job() -> Iterator[Trouble]:
    """Exactly one streaming job is to be active, unless none is wanted (MADHATTER_STREAM=off)."""
    if os.environ.get("MADHATTER_STREAM") == "off":
        return
    project, location = os.environ["MADHATTER_PROJECT"], os.environ.get("MADHATTER_LOCATION") or "europe-west1"
    endpoint = os.environ.get("DATAFLOW_API_ENDPOINT") or "https://dataflow.googleapis.com"
    url = f"{endpoint}/v1b3/projects/{project}/locations/{location}/jobs"
    try:
        found = _get(f"{url}?filter=ACTIVE&name={JOB}", endpoint).get("jobs", [])
    except (OSError, ValueError, exceptions.GoogleAuthError) as error:
        yield Trouble("job_unknown", "job:live", "warning", "Dataflow does not answer", [f"{endpoint}: {error}"])
        return
    running = [one for one in found if one.get("name") == JOB and one.get("currentState") in ACTIVE]
    if not running:
        reasons = ["The DAG retail_stream keeps it running: look there first."]
        yield Trouble("job_missing", "job:live", "critical", "No streaming job is running", reasons)


def lag(warehouse: Warehouse) -> Iterator[Trouble]:
    """What the job writes is to be new, loaded, of events that have just arrived, and to become final. A platform
    without a batch has no stream yet; none is wanted where MADHATTER_STREAM=off."""
    if os.environ.get("MADHATTER_STREAM") == "off":
        return
    try:
        newest = warehouse.transaction(lambda session: session.rows(NEWEST))[0]
    except Exception as error:  # whatever it is: the warehouse is what has failed
        yield Trouble(
            "warehouse_failing", "warehouse", "critical", "The warehouse does not answer functions", [f"{error}"[:1000]]
        )
        return
    if newest["written_ts"] is None:
        return
    now = datetime.now(UTC).replace(tzinfo=None)
    silent_s = (now - newest["loaded_ts"]).total_seconds()
    if silent_s > STALLED_S:
        reasons = [f"The last batch of minutes was loaded {silent_s:.0f} s ago, and written at {newest['written_ts']}."]
        yield Trouble("live_stalled", "live", "critical", "The live tables stand still", reasons)
    if newest["arrival_ts"] is not None:
        lag_s = (newest["written_ts"] - newest["arrival_ts"]).total_seconds()
        if lag_s > LAG_S:
            reasons = [f"The newest event of the last batch had arrived {lag_s:.0f} s before it was written."]
            yield Trouble("live_lag", "live", "warning", "The streaming job is behind, or no event arrives", reasons)
    final_until = newest["final_until"] or newest["first_ts"]
    if silent_s <= STALLED_S and (now - final_until).total_seconds() > NOT_FINAL_S:
        reasons = [
            f"Minutes before {final_until} are final, and none has become so since.",
            "The watermark stands: a partition has no leader, a topic is missing, or a transaction is left open.",
        ]
        yield Trouble("live_not_final", "live", "critical", "No minute of the live tables becomes final", reasons)


def functions() -> Iterator[Trouble]:
    """Each function is to answer, and not to have failed in the last minutes."""
    for name, url in json.loads(os.environ["MADHATTER_FUNCTIONS"]).items():
        try:
            failed = int(_get(url, url).get("failed_recently", 0))
        except (OSError, ValueError, exceptions.GoogleAuthError) as error:
            reasons = [f"{url}: {error}"]
            yield Trouble("function_away", f"function:{name}", "critical", f"{name} does not answer", reasons)
            continue
        if failed:
            reasons = [f"{failed} calls in the last ten minutes; its log has them, under severity ERROR."]
            yield Trouble("function_failing", f"function:{name}", "warning", f"{name} has failed", reasons)


def letters(told: Collection[str]) -> Iterator[Trouble]:
    """Nothing is to lie among the dead letters. told: the subjects whose letters have an open alert."""
    project, failures = os.environ["MADHATTER_PROJECT"], []
    with pubsub_v1.SubscriberClient() as client:
        for name in topology.read().subscriptions:
            subscription = client.subscription_path(project, dead_letters(name))
            try:
                found = _look(client, subscription, f"subscription:{name}" in told)
            except (GoogleAPICallError, RetryError) as error:
                if "larger than max" in str(error):
                    reasons = ["One is so large that it cannot be looked at here."]
                    yield Trouble(
                        "dead_letters", f"subscription:{name}", "warning", f"{name} has dead letters", reasons
                    )
                    continue
                failures.append(f"{subscription}: {error}")
                if isinstance(error, ClientError):  # it is about this subscription
                    continue
                break
            if found:
                many = f"{len(found)}{'' if len(found) < LETTERS else ' or more'}"
                # Not what is in it: that may be personal data, and alerts go to Slack and mail.
                first = min((one.message for one in found), key=lambda message: message.publish_time)
                reasons = [
                    f"{many} messages were not taken in all their attempts. The first, {first.message_id}, has "
                    f"{len(first.data)} bytes and was published at {first.publish_time:%Y-%m-%d %H:%M:%S} UTC.",
                    "`make letters` counts them; docs/how-to/functions.md says where to see why, and how to resend.",
                ]
                yield Trouble(
                    "dead_letters",
                    f"subscription:{name}",
                    "warning",
                    f"{name} has {many} dead letters",
                    reasons,
                    {"subscription": subscription, "count": len(found)},
                )
    if failures:
        yield Trouble("pubsub_failing", "pubsub", "critical", "Pub/Sub does not answer functions", failures)


def _look(client: pubsub_v1.SubscriberClient, subscription: str, is_told: bool) -> list[Any]:
    """Some of a subscription's letters, which stay where they are. An empty answer at once is no proof that there are
    none: where an alert would end by it, one is waited for. Raises GoogleAPICallError, RetryError."""
    asked = {"subscription": subscription, "max_messages": LETTERS}
    found = client.pull(request=asked | {"return_immediately": True}, timeout=TIMEOUT_S).received_messages
    if not found and is_told:
        with suppress(DeadlineExceeded):
            found = client.pull(request=asked, timeout=TIMEOUT_S).received_messages
    if found:
        ids = [one.ack_id for one in found]
        client.modify_ack_deadline(subscription=subscription, ack_ids=ids, ack_deadline_seconds=0)
    return list(found)


def _get(url: str, audience: str) -> dict[str, Any]:
    """JSON of a URL; https is asked with this service account's token. Raises OSError, ValueError, GoogleAuthError."""
    request = urllib.request.Request(url)
    if url.startswith("https://"):
        request.add_header("Authorization", f"Bearer {_token(audience)}")
        opener = urllib.request.build_opener()
    else:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        found = json.loads(answer.read())
    return found if isinstance(found, dict) else {}


def _token(audience: str) -> str:
    import google.auth
    from google.auth.transport.requests import Request
    from google.oauth2 import id_token

    if not audience.endswith(".googleapis.com"):
        return str(id_token.fetch_id_token(Request(), audience))  # type: ignore[no-untyped-call]
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    credentials.refresh(Request())  # type: ignore[no-untyped-call]
    return str(credentials.token)
