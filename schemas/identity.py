"""Pseudonyms for names, and choices that depend on names alone."""

import hashlib
import hmac
import math

from schemas.example import ID_LENGTH

_BELOW_ONE = math.nextafter(1, 0)  # 56 bits are more than a float holds: the highest values would round up to 1


def pseudonym(kind: str, name: str, key: bytes = b"") -> str:
    """HMAC-SHA-256 (RFC 2104) of `name` under `key`, cut to ID_LENGTH hexadecimal characters. `kind` keeps the ids of
    examples and of groups apart. Without a key this hides nothing from anyone who can guess names."""
    return hmac.new(key, f"{kind}\0{name}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:ID_LENGTH]


def uniform(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends only on the arguments; `purpose` makes choices independent of each other."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode("utf-8", "surrogateescape")).digest()
    return min(int.from_bytes(digest[:7], "big") / (1 << 56), _BELOW_ONE)
