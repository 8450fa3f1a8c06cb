"""Makes a room: a network namespace with a tap in it, up, addressed, and with the machine's hardware address known.

A thread of this process makes it and goes; descriptors keep it. Only root may do that.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import functools
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.host.network.relay import GUEST, ROOM

TUN = Path("/dev/net/tun")
TAP = "tap0"
MAC = "02:73:71:75:69:62"  # the machine's; one alone is in its room
_TAP_MAC = "02:73:71:75:69:61"
_PREFIX_MASK = "255.255.255.252"
_CLONE_NEWNET = 0x40000000
_TUNSETPERSIST, _TUNSETOWNER = 0x400454CB, 0x400454CC
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_SIOCSIFHWADDR, _SIOCSARP = 0x8924, 0x8955
_IFF_UP, _ARPHRD_ETHER, _ATF_COM, _ATF_PERM = 1, 1, 0x02, 0x04


@dataclass(frozen=True, slots=True)
class Room:
    """Descriptors of the namespace and of the tap in it."""

    namespace: int
    tap: int

    def close(self) -> None:
        """Let go of both: the room is there as long as somebody else holds it."""
        for descriptor in (self.namespace, self.tap):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@contextlib.asynccontextmanager
async def made(owner: int | None = None) -> AsyncIterator[Room]:
    """A room, which this process lets go of at the end. Needs root. Raises InfrastructureError.

    With `owner` the tap is held by nobody, and waits for a monitor that this user runs in the room.
    """
    try:
        room = await _in_thread(functools.partial(_make, owner))
    except OSError as error:
        raise InfrastructureError(f"the machine's network can't be made: {error}") from error
    try:
        yield room
    finally:
        room.close()


async def _in_thread(work: Callable[[], Room]) -> Room:
    """Run `work` in a thread of its own: one that has moved into another namespace must not be used again."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Room] = loop.create_future()

    def tell(room: Room | None, error: OSError | None) -> None:
        if outcome.done():  # nobody waits any more
            if room is not None:
                room.close()
        elif error is not None:
            outcome.set_exception(error)
        elif room is not None:
            outcome.set_result(room)

    def run() -> None:
        try:
            found, trouble = work(), None
        except OSError as error:
            found, trouble = None, error
        loop.call_soon_threadsafe(tell, found, trouble)

    threading.Thread(target=run, name="squib-room", daemon=True).start()
    return await outcome


def _make(owner: int | None) -> Room:
    """In a thread that ends after it. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"a network namespace: {os.strerror(code)}")
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Room(namespace, furnish(owner))
    except OSError:
        os.close(namespace)
        raise


def furnish(owner: int | None = None) -> int:
    """Put the tap into this thread's network namespace, which is new; gives its descriptor. Raises OSError.

    With `owner` it stays without one, for as long as the namespace does, and the descriptor is -1.
    """
    for name in ("all", "default"):
        with contextlib.suppress(OSError):  # a kernel without IPv6
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", TAP.encode(), flags))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            _set(control, _SIOCSIFHWADDR, struct.pack("H6s", _ARPHRD_ETHER, _hardware(_TAP_MAC)))
            _set(control, _SIOCSIFADDR, _address(ROOM))
            _set(control, _SIOCSIFNETMASK, _address(_PREFIX_MASK))
            for name in (TAP, "lo"):
                _up(control, name)
            # The machine need not be asked for what is known: it may not be there yet, or be frozen.
            entry = _address(GUEST) + struct.pack("H6s8x", _ARPHRD_ETHER, _hardware(MAC))
            fcntl.ioctl(control, _SIOCSARP, entry + struct.pack("i16s16s", _ATF_COM | _ATF_PERM, b"", TAP.encode()))
        if owner is not None:
            fcntl.ioctl(tap, _TUNSETOWNER, owner)
            fcntl.ioctl(tap, _TUNSETPERSIST, 1)
    except OSError:
        os.close(tap)
        raise
    if owner is None:
        return tap
    os.close(tap)
    return -1


def _set(control: socket.socket, request: int, value: bytes) -> None:
    fcntl.ioctl(control, request, struct.pack("16s24s", TAP.encode(), value))


def _up(control: socket.socket, name: str) -> None:
    asked = struct.pack("16sH22x", name.encode(), 0)
    (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, asked), 16)
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))


def _address(text: str) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))


def _hardware(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
