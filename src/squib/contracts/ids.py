"""Identifiers: lower-case, time-sortable, unguessable, valid DNS-1123 labels, minted once and never reused."""

import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower-case: sorts as its numbers do
_PATTERN = re.compile(r"(?:task|sbx|mch|run|msg|tok|usr|wrk|upl|snp|ep)-[0-9a-hjkmnp-tv-z]{26}")


def _base32(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        value, digit = divmod(value, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def new_id(prefix: str) -> str:
    """Mint `prefix-` and 26 characters: 48 bits of milliseconds since 1970, then 80 random bits."""
    return f"{prefix}-{_base32(time.time_ns() // 1_000_000, 10)}{_base32(secrets.randbits(80), 16)}"


def is_id(text: str, prefix: str) -> bool:
    """Say whether `text` has the form of an id with this prefix: check it before it becomes part of a path."""
    return text.startswith(prefix + "-") and _PATTERN.fullmatch(text) is not None


def new_token(prefix: str = "sqb") -> str:
    """Mint an opaque bearer token of 256 random bits. Show it once and keep only its hash."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"
