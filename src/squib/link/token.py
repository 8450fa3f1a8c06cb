"""Tokens of guests and hosts: derived from the installation's key, so that none need be stored."""

import hashlib
import hmac


def guest_token(key: bytes, machine_id: str) -> str:
    """The bearer token of that machine's guest: 64 hex digits of HMAC-SHA256."""
    return hmac.new(key, machine_id.encode(), hashlib.sha256).hexdigest()


def token_digest(token: str) -> str:
    """What the guest may know of its token (GuestConfig.token_sha256): 64 hex digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def host_token(key: bytes) -> str:
    """The bearer token of every host's daemon in the installation. No machine is called so: it opens no guest."""
    return hmac.new(key, b"squib host", hashlib.sha256).hexdigest()
