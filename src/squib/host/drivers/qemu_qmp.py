"""A client of QEMU's machine protocol (QMP) over a unix socket: commands, and descriptors to go with them.

What QEMU says is not trusted more than the guest that may have taken it over: bounded, and no more than parsed.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from squib.contracts.errors import InfrastructureError

MAX_LINE = 256 * 1024
ANSWER_SECONDS = 20.0


class Monitor:
    """One connection; commands come one after the other."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._rest = b""

    async def command(self, name: str, descriptor: int | None = None, **arguments: Any) -> Any:
        """Give a command, and a descriptor with it; gives what it returns. Raises InfrastructureError."""
        request = json.dumps({"execute": name, **({"arguments": arguments} if arguments else {})}).encode() + b"\n"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if descriptor is None:
                    await asyncio.get_running_loop().sock_sendall(self._sock, request)
                else:  # one short message into an idle connection: it does not block
                    socket.send_fds(self._sock, [request], [descriptor])
                return await self._answer(name)
        except (OSError, ValueError, TimeoutError) as error:
            raise InfrastructureError(f"QEMU does not answer {name}: {error or 'time is over'}") from error

    async def save_devices(self, target: int) -> None:
        """Write the state of all devices to the descriptor `target`, without memory. Raises InfrastructureError.

        The command has its name from where it is used elsewhere. It works on a machine that stands still.
        """
        given = await self.command("add-fd", target)
        if not isinstance(given, dict) or not isinstance(given.get("fdset-id"), int):
            raise InfrastructureError("QEMU does not say where it keeps the file")
        name = f"/dev/fdset/{given['fdset-id']}"
        await self.command("xen-save-devices-state", filename=name, live=False)

    async def _answer(self, name: str) -> Any:
        """The answer to the command; events that come between are passed over."""
        while True:
            said = json.loads(await self._line())
            if not isinstance(said, dict):
                raise ValueError("what it says is no answer")
            if "error" in said:
                why = said["error"].get("desc") if isinstance(said["error"], dict) else said["error"]
                raise InfrastructureError(f"QEMU refused {name}: {str(why)[:500]}")
            if "return" in said:
                return said["return"]

    async def greet(self) -> None:
        """Take its greeting and turn to commands. Raises InfrastructureError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._line()
        except (OSError, ValueError, TimeoutError) as error:
            raise InfrastructureError(f"QEMU does not answer: {error or 'time is over'}") from error
        await self.command("qmp_capabilities")

    async def _line(self) -> bytes:
        while b"\n" not in self._rest:
            piece = await asyncio.get_running_loop().sock_recv(self._sock, 65_536)
            if not piece:
                raise ConnectionResetError("it has ended")
            self._rest += piece
            if len(self._rest) > MAX_LINE:
                raise ValueError("it says too much")
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket for QEMU to take over, at a path that this process's user alone may connect to."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(1)
        yield sock


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Monitor]:
    """A monitor at the socket, within the block. Raises InfrastructureError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, str(path))
        except OSError as error:
            raise InfrastructureError(f"QEMU can't be reached: {error}") from error
        monitor = Monitor(sock)
        await monitor.greet()
        yield monitor
