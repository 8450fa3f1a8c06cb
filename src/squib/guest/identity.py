"""Names that this guest makes: its epochs. (`contracts.ids` would load `secrets` and `random` at every start.)"""

import os
import re
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # as contracts.ids: Crockford's base 32
_EPOCH = re.compile(r"ep-[0-9a-hjkmnp-tv-z]{26}")


def new_epoch() -> str:
    """Mint an epoch as `contracts.ids.new_id("ep")` does: milliseconds since 1970, then 80 random bits."""
    value = ((time.time_ns() // 1_000_000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "ep-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def is_epoch(text: str) -> bool:
    """Whether `text` has the form of an epoch."""
    return _EPOCH.fullmatch(text) is not None
