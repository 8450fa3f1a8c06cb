"""The other half of the guest in a machine of its own: the process that kept the rights, as the supervisor asks it.

Whoever started the supervisor left it one end of a stream, and says so in the environment. Messages and answers are
lines of JSON. A helper may be asleep: an empty line, which goes before each message, wakes it.
"""

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from typing import Any

#: Names the descriptor and the helper's pid, with a space between.
VARIABLE = "SQUIB_HELPER"
MESSAGE_BYTES = 16_384
_SECONDS = 10.0


class Helper:
    """Asks the process `pid` at the other end of the stream, one message at a time."""

    def __init__(self, end: socket.socket, pid: int):
        self.pid = pid
        self._socket = end
        self._socket.setblocking(False)
        self._lock = asyncio.Lock()

    @classmethod
    def inherited(cls) -> "Helper | None":
        """The one that this process was started with, if any. No other process is told of it."""
        told = os.environ.pop(VARIABLE, "").split()
        if len(told) != 2:
            return None
        end = socket.socket(fileno=int(told[0]))
        end.set_inheritable(False)
        return cls(end, int(told[1]))

    async def perform(self, identity: Mapping[str, Any] | None) -> list[str]:
        """Have it take on an identity; with None it only gets ready to. Gives what failed, for a person."""
        message = b"\n" + json.dumps({"identity": identity}).encode() + b"\n"
        try:
            async with self._lock, asyncio.timeout(_SECONDS):
                await asyncio.get_running_loop().sock_sendall(self._socket, message)
                told = json.loads(await self._line())
            return [str(each) for each in told["failed"]]
        except (OSError, TimeoutError, ValueError, LookupError, TypeError):
            self.close()  # or an answer that comes late would be taken for the next one
            return ["all (the process that has the rights does not answer)"]

    async def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = await asyncio.get_running_loop().sock_recv(self._socket, MESSAGE_BYTES)
            if not part or len(line) > MESSAGE_BYTES:
                raise ConnectionResetError("the helper is gone")
            line += part
        return line

    def close(self) -> None:
        """Ask no more, which ends the helper."""
        self._socket.close()
