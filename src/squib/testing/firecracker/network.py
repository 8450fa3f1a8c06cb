"""Puts the machine's own address where its stand-in can answer: on the loopback of the VMM's network namespace."""

import contextlib
import fcntl
import ipaddress
import socket
import struct

_GETADDR, _GETMASK, _SETADDR, _SETMASK, _GETFLAGS, _SETFLAGS = 0x8915, 0x891B, 0x8916, 0x891C, 0x8913, 0x8914
_UP = 1


def stand_in() -> None:
    """For each interface whose network has two addresses, take the other one. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        (flags,) = struct.unpack_from("H", _asked(control, _GETFLAGS, "lo"), 16)
        fcntl.ioctl(control, _SETFLAGS, struct.pack("16sH22x", b"lo", flags | _UP))
        others = [other for _, name in socket.if_nameindex() if (other := _other(control, name)) is not None]
        for number, other in enumerate(others):
            alias = f"lo:{number}".encode()
            fcntl.ioctl(control, _SETADDR, struct.pack("16sHH4s16x", alias, socket.AF_INET, 0, other.packed))
            fcntl.ioctl(control, _SETMASK, struct.pack("16sHH4s16x", alias, socket.AF_INET, 0, b"\xff" * 4))


def _other(control: socket.socket, name: str) -> ipaddress.IPv4Address | None:
    with contextlib.suppress(OSError):  # an interface without an address
        address = ipaddress.IPv4Address(_asked(control, _GETADDR, name)[20:24])
        mask = ipaddress.IPv4Address(_asked(control, _GETMASK, name)[20:24])
        hosts = list(ipaddress.IPv4Interface(f"{address}/{mask}").network.hosts()) if mask.packed[3] >= 252 else []
        if len(hosts) == 2:
            return next(host for host in hosts if host != address)
    return None


def _asked(control: socket.socket, request: int, name: str) -> bytes:
    return fcntl.ioctl(control, request, struct.pack("16s24x", name.encode()))
