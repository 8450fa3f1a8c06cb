"""A stand-in VMM in the test's own process, which records what goes over its socket."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squib.testing.firecracker.faults import Faults
from squib.testing.firecracker.guest import Guest
from squib.testing.firecracker.http import Answer
from squib.testing.firecracker.vmm import Vmm


@dataclass(frozen=True)
class Said:
    """One request and its answer."""

    method: str
    path: str
    body: bytes
    answer: Answer


class Recorded(Vmm):
    """Keeps what was said, and the status with which the process would have ended."""

    def __init__(self, place: Path):
        super().__init__("mch-1", 51200, Faults(place / "faults.json"), Guest(place / "guest"))
        self.place = place
        self.socket = place / "vmm.sock"
        self.said: list[Said] = []
        self.ended: asyncio.Task[int]

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        answer = await super().answer(method, path, body)
        self.said.append(Said(method, path, body, answer))
        return answer


@contextlib.asynccontextmanager
async def running(place: Path) -> AsyncIterator[Recorded]:
    """One that listens at `place`/vmm.sock."""
    place.mkdir(exist_ok=True)
    vmm = Recorded(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(vmm.socket))
        sock.listen()
        vmm.ended = asyncio.create_task(vmm.serve(sock))
        try:
            yield vmm
        finally:
            vmm.ended.cancel()
            await asyncio.gather(vmm.ended, return_exceptions=True)
            vmm.close()


@dataclass(frozen=True)
class Files:
    """What a machine is made of, as far as the stand-in looks at it."""

    kernel: str
    root: str
    overlay: str
    state: str
    memory: str


def files(place: Path) -> Files:
    """A kernel and two drives."""
    for name, size in (("vmlinux", 1), ("root.squashfs", 4096), ("overlay.ext4", 1024 * 1024)):
        with (place / name).open("wb") as file:
            file.truncate(size)
    names = ("vmlinux", "root.squashfs", "overlay.ext4", "state.snap", "memory.snap")
    return Files(*(str(place / name) for name in names))


@dataclass
class Line:
    """A connection, by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    vmm: Recorded

    async def raw(self, request: bytes) -> tuple[str, bytes]:
        """Head and body of the answer."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("Content-Length:")), 0)
        return head, await self.reader.readexactly(length)

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and document."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head, answer = await self.raw(
            f"{method} {path} HTTP/1.1\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw
        )
        return int(head.split()[1]), json.loads(answer) if answer else None

    async def fault(self, method: str, path: str, body: Any = None) -> str:
        """The text of a refusal."""
        status, document = await self.ask(method, path, body)
        assert status == 400
        assert list(document) == ["fault_message"]
        return str(document["fault_message"])

    async def does(self, method: str, path: str, body: Any) -> None:
        """It succeeds."""
        assert await self.ask(method, path, body) == (204, None)


async def start(line: Line, parts: Files) -> None:
    await line.does("PUT", "/boot-source", {"kernel_image_path": parts.kernel})
    await line.does("PUT", "/actions", {"action_type": "InstanceStart"})
