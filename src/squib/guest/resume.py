"""What makes a clone of a snapshot a stranger to its siblings: entropy, clock, names, token, epoch."""

import base64
import binascii
import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import EventType
from squib.contracts.guest import Resume

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207


async def resume(guest: "Supervisor", request: Resume) -> None:
    """Do each step as far as this sandbox allows; one `runtime.log` event tells of those that it did not.

    Raises InvalidRequest before anything is changed.
    """
    seed = _check(request)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("entropy", lambda: _entropy(seed)),
        ("clock", lambda: time.clock_settime(time.CLOCK_REALTIME, request.time)),
        ("hostname", lambda: socket.sethostname(request.hostname)),
        ("machine-id", lambda: _machine_id(request.machine_id)),
    ]
    failed = []
    for name, step in steps:
        try:
            if name != "entropy" and os.getpid() != 1:
                raise PermissionError(errno.EPERM, "this guest is not process 1, so the machine is not its own")
            step()
        except OSError as error:
            failed.append(f"{name} ({(error.strerror or str(error)).lower()})")
    if (random := sys.modules.get("random")) is not None:
        random.seed(seed)
    guest.sandbox_id = request.sandbox_id
    guest.token_sha256 = request.token_sha256.lower()
    guest.relay.gateway = request.gateway if request.gateway is not None else guest.relay.gateway
    guest.events.begin()
    if failed:
        message = f"after the restore, this sandbox did not allow: {', '.join(failed)}"
        guest.events.record(EventType.RUNTIME_LOG, {"level": "warning", "message": message})


def _check(request: Resume) -> bytes:
    try:
        seed = base64.b64decode(request.entropy, validate=True)
    except (binascii.Error, ValueError):
        seed = b""
    good = {
        "entropy": len(seed) >= 32,
        "token_sha256": len(request.token_sha256) == 64 and _is_hex(request.token_sha256),
        "machine_id": len(request.machine_id) == 32 and _is_hex(request.machine_id),
        "hostname": 0 < len(request.hostname) <= 64 and request.hostname.replace("-", "a").isalnum(),
        "time": request.time > 0,
    }
    for name, fine in good.items():
        if not fine:
            raise InvalidRequest(f"{name}: has the wrong form", fields={name: "has the wrong form"})
    return seed


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)


def _entropy(seed: bytes) -> None:
    fd = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, seed)  # mixed in without credit: allowed to everybody, and better than nothing
        fcntl.ioctl(fd, _RNDADDENTROPY, struct.pack(f"ii{len(seed)}s", len(seed) * 8, len(seed), seed))
        fcntl.ioctl(fd, _RNDRESEEDCRNG)
    finally:
        os.close(fd)


def _machine_id(text: str) -> None:
    path = Path("/etc/machine-id")
    with contextlib.suppress(PermissionError):
        path.chmod(0o644)
    path.write_text(text.lower() + "\n")
