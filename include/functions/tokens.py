"""Who calls: the OIDC token that Pub/Sub and Cloud Scheduler sign for one function's address.

https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, cast

import jwt
from google.auth import exceptions, transport
from google.oauth2 import id_token

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
KEPT_S = 3600  # Google's keys are valid for days, and told for hours before they are used
ASKED_AGAIN_S = 10  # a forger may make up as many key ids as he likes


class Forged(ValueError):
    """A call that is not from whom it should be: why."""


class Unverifiable(RuntimeError):
    """The keys by which a token is verified cannot be had now."""


class _Reply(transport.Response):
    """The issuer's keys, as if he had just been asked."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def status(self) -> int:
        return 200

    @property
    def headers(self) -> dict[str, str]:
        return {}

    @property
    def data(self) -> bytes:
        return self._data


class Caller:
    """Verifies tokens. audience: the function's address; account: the service account that may call; certs: address of
    the issuer's keys, in JWK form or as certificates."""

    def __init__(self, audience: str, account: str, certs: str) -> None:
        self.audience, self.account, self._certs = audience, account, certs
        self._lock = threading.Lock()
        self._keys, self._asked = b"", -float(KEPT_S)

    def verify(self, authorization: str | None) -> None:
        """authorization: the header. Raises Forged, Unverifiable."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Forged("no bearer token: only Pub/Sub and the scheduler may call, with a token of their own")
        try:
            claims = self._claims(token.strip())
        except (ValueError, exceptions.GoogleAuthError, jwt.PyJWTError) as error:
            raise Forged(f"the token is not valid: {error}") from None
        if claims.get("iss") not in ISSUERS:
            raise Forged(f"the token's issuer is {claims.get('iss')!r}, not Google")
        if claims.get("email") != self.account or not claims.get("email_verified"):
            raise Forged(f"the token is for {claims.get('email')!r}: only {self.account} may call")

    def _claims(self, token: str) -> Mapping[str, Any]:
        # Both words of a header are the caller's: the key that it names must be one of the issuer's.
        header = jwt.get_unverified_header(token)
        keys = self._known(KEPT_S)
        if f'"{header.get("kid")}"'.encode() not in keys:
            keys = self._known(ASKED_AGAIN_S)
        claims: Mapping[str, Any] = id_token.verify_token(
            token, cast("Any", lambda *_, **__: _Reply(keys)), audience=self.audience, certs_url=self._certs
        )
        if "exp" not in claims:
            raise Forged("the token never expires")
        return claims

    def _known(self, kept_s: float) -> bytes:
        """The issuer's keys, not older than kept_s. Those that are known are good enough while it does not answer."""
        with self._lock:
            if time.monotonic() - self._asked >= kept_s:
                try:
                    self._keys = _get(self._certs)
                except (OSError, ValueError) as error:
                    if not self._keys:
                        raise Unverifiable(f"the keys at {self._certs} cannot be had: {error}") from error
                self._asked = time.monotonic()
            return self._keys


def _get(url: str) -> bytes:
    # A function asks Google directly; a laptop's proxy knows nothing of its own ports.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        data: bytes = answer.read(1 << 20)
    json.loads(data)
    return data
