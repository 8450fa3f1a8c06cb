"""What only a privileged process can renew in a machine of its own: the kernel's random bytes, its clock, its names.

The process that holds the rights is asked by lines of JSON: see `helper`. It is small, and it trusts nobody, not even
the supervisor. Each step stands for itself; one whose aim is there already has not failed.
"""

import base64
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from squib.guest import privileges
from squib.guest.helper import MESSAGE_BYTES

_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207
_MS_BIND = 4096
_OWNER_OF_DEV = 65534
_PLACE = "/dev/.squib"  # files that stand in for those of a root that can't be written
_STOOD_IN = (_HOSTS, _OWN_ID, _BOOT_ID) = ("/etc/hosts", "/etc/machine-id", "/proc/sys/kernel/random/boot_id")
_CLOCK_SECONDS = 0.5  # that a clock may be wrong where it can't be set: then it is the host's own
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
#: In this order: what comes later draws on the entropy.
STEPS = ("entropy", "clock", "hostname", "machine-id", "boot-id")


def wrong(identity: Mapping[str, Any]) -> list[str]:
    """The names of what is malformed or missing."""
    try:
        seed = base64.b64decode(identity.get("entropy", ""), validate=True)
    except (TypeError, ValueError):
        seed = b""
    moment, hostname, machine_id = (identity.get(name) for name in ("time", "hostname", "machine_id"))
    good = {
        "entropy": 32 <= len(seed) <= 1024,
        "time": isinstance(moment, int | float) and 0 < moment < 2**40,
        "hostname": isinstance(hostname, str) and _HOSTNAME.fullmatch(hostname),
        "machine_id": isinstance(machine_id, str) and _MACHINE_ID.fullmatch(machine_id),
    }
    return [name for name, fine in good.items() if not fine]


def perform(identity: Mapping[str, Any], steps: Iterable[str] = STEPS) -> list[str]:
    """Take on an identity that is not `wrong`: `entropy` (base64), `time`, `hostname`, `machine_id`.

    Gives the steps that failed and why, for a person.
    """
    failed = []
    for name in steps:
        try:
            _STEPS[name](identity)
        except OSError as error:
            failed.append(f"{name} ({(error.strerror or str(error)).lower()})")
    return failed


def help_asleep() -> int:
    """Be the helper of a machine of gVisor's, on standard input: as the owner of /dev, with one capability alone."""
    privileges.keep_only(privileges.SYS_ADMIN, user=_OWNER_OF_DEV)
    serve(0)
    return 0


def serve(end: int) -> None:
    """Answer at this end of the stream until the other is closed."""
    _prepare()
    with open(end, "rb", closefd=False) as messages:
        while message := messages.readline(MESSAGE_BYTES):
            if message != b"\n":
                os.write(end, answer(message) + b"\n")


def answer(message: bytes) -> bytes:
    """Do what a message asks for, JSON with `identity` (null: nothing yet); gives the answer, JSON with `failed`."""
    try:
        identity = json.loads(message)["identity"]
        bad = wrong(identity) if identity is not None else []
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        identity, bad = None, ["message"]
    failed = [f"{name} (malformed)" for name in bad]
    if identity is not None and not bad:
        failed = perform(identity)
    return json.dumps({"failed": failed}).encode()


def _prepare() -> None:
    """Bind every stand-in before anything is frozen, so that what goes on from there has only to write."""
    for target in _STOOD_IN:
        # What is wrong, its own step will tell; and whatever an image has there is no reason to stumble.
        with contextlib.suppress(OSError), open(target, errors="replace") as file:
            _stand_in(target, file.read())


def _entropy(identity: Mapping[str, Any]) -> None:
    """Mix the bytes in, count them, and have the kernel's generator begin anew."""
    seed = base64.b64decode(identity["entropy"])
    fd = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, seed)  # mixed in without credit: allowed to everybody, and better than nothing
        fcntl.ioctl(fd, _RNDADDENTROPY, struct.pack(f"ii{len(seed)}s", len(seed) * 8, len(seed), seed))
        fcntl.ioctl(fd, _RNDRESEEDCRNG)
    except OSError as error:
        if error.errno != errno.ENOTTY:  # gVisor: its random bytes are the host's, at each call anew
            raise
    finally:
        os.close(fd)


def _clock(identity: Mapping[str, Any]) -> None:
    moment = float(identity["time"])
    try:
        time.clock_settime(time.CLOCK_REALTIME, moment)
    except OSError:
        if abs(time.time() - moment) > _CLOCK_SECONDS:
            raise


def _hostname(identity: Mapping[str, Any]) -> None:
    name = identity["hostname"]
    if socket.gethostname() != name:
        socket.sethostname(name)
    _stand_in(_HOSTS, f"127.0.0.1 localhost {name}\n::1 localhost {name}\n")


def _machine_id(identity: Mapping[str, Any]) -> None:
    _stand_in(_OWN_ID, identity["machine_id"] + "\n")


def _boot_id(_: Mapping[str, Any]) -> None:
    text = os.urandom(16).hex()  # in the form of a version 4 UUID
    _stand_in(_BOOT_ID, f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}\n")


_STEPS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "entropy": _entropy,
    "clock": _clock,
    "hostname": _hostname,
    "machine-id": _machine_id,
    "boot-id": _boot_id,
}


def _stand_in(target: str, content: str) -> None:
    """Have `target` show the content, by a file that is bound there once; nothing where there is no such target."""
    if not os.path.exists(target):  # noqa: PTH110
        return
    os.makedirs(_PLACE, 0o755, exist_ok=True)  # noqa: PTH103
    source = f"{_PLACE}/{target.rpartition('/')[2]}"
    known = os.path.exists(source)  # noqa: PTH110
    try:
        _write(source, content)
        if not known:
            _bind(source, target)
    except OSError:
        if not known:  # one that is there counts as bound
            with contextlib.suppress(OSError):
                os.unlink(source)  # noqa: PTH108
        raise


def _write(path: str, content: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.write(fd, content.encode())
    finally:
        os.close(fd)


def _bind(source: str, target: str) -> None:
    if ctypes.CDLL(None, use_errno=True).mount(source.encode(), target.encode(), None, _MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
