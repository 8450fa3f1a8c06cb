"""What a machine's devices hold on the host: drives that open, a tap that is attached, a socket that is bound."""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Any

from squib.testing.firecracker.fault import Fault, os_text

_TUNSETIFF = 0x400454CA
_TAP, _NO_PI, _VNET_HDR = 0x2, 0x1000, 0x4000
_MAX_NAME = 15
_BACKEND = "Virtio backend error: Error manipulating the backing file: {} {}"


def open_drive(drive: dict[str, Any]) -> str | None:
    """Try to open a drive's file as the machine would; what is wrong with it, or None."""
    path = drive.get("path_on_host")
    if path is None or drive.get("is_read_only") is None or drive.get("socket") is not None:
        return "Invalid block config."
    try:
        os.close(os.open(path, (os.O_RDONLY if drive["is_read_only"] else os.O_RDWR) | os.O_CLOEXEC))
    except OSError as error:
        return _BACKEND.format(os_text(error), path)
    return None


def open_tap(name: str) -> int:
    """Attach to a tap, which is made where there is none and the user may. Raises Fault."""
    if len(os.fsencode(name)) > _MAX_NAME:
        raise Fault(_tap("Invalid interface name"))
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Fault(_tap(f"Couldn't open /dev/net/tun: {os_text(error)}")) from error
    try:
        request = struct.pack("16sH22x", os.fsencode(name), _TAP | _NO_PI | _VNET_HDR)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        raise Fault(
            _tap(
                f"Error while creating ifreq structure: {os_text(error)}. Invalid TUN/TAP Backend provided by {name}"
                ". Check our documentation on setting up the network devices."
            )
        ) from error
    return descriptor


def _tap(text: str) -> str:
    return f"Could not create the network device: Open tap device failed: {text}"


class Held:
    """What the devices hold open, by device."""

    def __init__(self) -> None:
        self._taps: dict[str, int] = {}
        self._vsock: tuple[socket.socket, Path] | None = None

    def tap(self, interface: str, name: str) -> None:
        """Attach the interface to a tap, instead of the one that it had. Raises Fault."""
        self._drop_tap(interface)
        self._taps[interface] = open_tap(name)

    def vsock(self, path: str) -> None:
        """Bind the vsock's socket, whose guest listens on no port: it closes what connects. Raises OSError."""
        if self._vsock is not None:
            self._vsock[1].unlink(missing_ok=True)
            self._drop_vsock()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind(path)
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
        asyncio.get_running_loop().add_reader(sock, lambda: sock.accept()[0].close())
        self._vsock = (sock, Path(path))

    def close(self) -> None:
        """Let go of all; names in the file system stay, as they do with the real one."""
        for interface in list(self._taps):
            self._drop_tap(interface)
        self._drop_vsock()

    def _drop_vsock(self) -> None:
        if self._vsock is not None:
            asyncio.get_running_loop().remove_reader(self._vsock[0])
            self._vsock[0].close()
            self._vsock = None

    def _drop_tap(self, interface: str) -> None:
        with contextlib.suppress(KeyError):
            os.close(self._taps.pop(interface))
