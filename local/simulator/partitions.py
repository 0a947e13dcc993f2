"""Where Kafka's own clients put a key: murmur2, as `partitioner=murmur2_random` and Java do, for many keys at once."""

from __future__ import annotations

import numpy as np

from local.simulator.events import Numbers

_M = np.uint32(0x5BD1E995)


def partitions(keys: list[bytes], count: Numbers | int) -> Numbers:
    """The partition of each key in a topic of `count` partitions (one number, or one a key)."""
    if not keys:
        return np.zeros(0, np.int32)
    # A fixed-length array drops trailing zero bytes, which no key has.
    padded = np.array(keys)
    width = -(-padded.dtype.itemsize // 4) * 4
    padded = padded.astype(f"S{width}")
    length = np.char.str_len(padded).astype(np.uint32) if len(keys) < 64 else _lengths(keys)
    words = padded.view("<u4").reshape(len(keys), width // 4)
    with np.errstate(over="ignore"):
        h = np.uint32(0x9747B28C) ^ length
        for at in range(width // 4):
            word = words[:, at]
            k = word * _M
            k = (k ^ (k >> np.uint32(24))) * _M
            full = length >= 4 * (at + 1)
            # The last, partial word is mixed in another way; its missing bytes are zeros already.
            rest = (length > 4 * at) & ~full
            h = np.where(full, (h * _M) ^ k, np.where(rest, (h ^ word) * _M, h))
        h = (h ^ (h >> np.uint32(13))) * _M
        h ^= h >> np.uint32(15)
    placed: Numbers = ((h & np.uint32(0x7FFFFFFF)) % np.asarray(count, np.uint32)).astype(np.int32)
    return placed


def _lengths(keys: list[bytes]) -> Numbers:
    return np.fromiter(map(len, keys), np.uint32, len(keys))
