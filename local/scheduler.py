"""A stand-in for Cloud Scheduler: `python -m local.scheduler FUNCTION` calls a function once, with an empty POST and a
token as the service would sign it."""

from __future__ import annotations

import sys

import httpx

from local.instance import PUSH_ACCOUNT, Instance
from local.pubsub.tokens import Signer


def call(instance: Instance, function: str) -> int:
    """Returns the HTTP status of the answer. Raises httpx.HTTPError when there is none."""
    url = instance.url(function)
    token = Signer(instance.data / "pubsub" / "push.pem").token(PUSH_ACCOUNT, url)
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.post(url, headers={"Authorization": f"Bearer {token}"}).status_code


if __name__ == "__main__":
    try:
        status = call(Instance.current(), sys.argv[1])
    except httpx.HTTPError as error:
        sys.exit(f"{sys.argv[1]} does not answer: {error}")
    sys.exit(0 if status < 300 else f"{sys.argv[1]} answers {status}")
