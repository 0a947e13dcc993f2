"""OIDC tokens of push requests, signed with a key of the stand-in's own, and the certificates to verify them by."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://accounts.google.com"
VALID_S = 3600


class Signer:
    """Keeps its key in a file that only its owner reads, so that tokens stay valid over a restart."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            own = path.with_suffix(".new")
            own.touch(mode=0o600)
            own.write_bytes(pem)
            own.rename(path)
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        assert isinstance(loaded, rsa.RSAPrivateKey)
        self._key = loaded
        public = loaded.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._id = hashlib.sha256(public).hexdigest()[:16]  # another key has another id, so that it is asked for
        self._tokens: dict[tuple[str, str], tuple[float, str]] = {}

    def token(self, service_account: str, audience: str) -> str:
        """A signed JWT for this push endpoint, valid for at least half an hour."""
        known = self._tokens.get((service_account, audience))
        now = time.time()
        if known and known[0] - now > VALID_S / 2:
            return known[1]
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "azp": service_account,
            "sub": service_account,
            "email": service_account,
            "email_verified": True,
            "iat": int(now),
            "exp": int(now) + VALID_S,
        }
        text = f"{_part({'alg': 'RS256', 'kid': self._id, 'typ': 'JWT'})}.{_part(claims)}"
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        token = f"{text}.{_encoded(signature)}"
        self._tokens[service_account, audience] = (now + VALID_S, token)
        return token

    def keys(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        return {
            "keys": [
                {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self._id}
                | {name: _encoded(_bytes(value)) for name, value in (("n", numbers.n), ("e", numbers.e))}
            ]
        }


def _part(value: dict[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
