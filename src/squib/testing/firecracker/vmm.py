"""The process that stands in for Firecracker: its command line, its socket, its exit status."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.testing.firecracker import requests, snapshot
from squib.testing.firecracker.arguments import Arguments, BadArguments, Option, bad_id, parse
from squib.testing.firecracker.fault import Fatal, Fault, os_text
from squib.testing.firecracker.faults import Faults
from squib.testing.firecracker.guest import Guest
from squib.testing.firecracker.http import Answer, Server
from squib.testing.firecracker.machine import Machine
from squib.testing.firecracker.names import FORMAT, VERSION

_SOCKET = "/run/firecracker.socket"
_LIMIT = 51200  # bytes of a request, and of the metadata
_OK, _GENERIC, _ARGUMENTS = 0, 1, 153
_VALUED = (
    *("api-sock", "id", "start-time-us", "start-time-cpu-us", "parent-cpu-time-us", "config-file", "metadata"),
    *("log-path", "level", "module", "metrics-path", "describe-snapshot", "http-api-max-payload-size"),
    "mmds-size-limit",
)
_FLAGS = ("show-level", "show-log-origin", "boot-timer", "version", "snapshot-version", "enable-pci")
OPTIONS = {
    **{name: Option() for name in _VALUED},
    **{name: Option(value=False) for name in _FLAGS},
    "no-api": Option(value=False, requires="config-file"),
    "seccomp-filter": Option(forbids="no-seccomp"),
    "no-seccomp": Option(value=False, forbids="seccomp-filter"),
}


def main(words: Sequence[str]) -> int:
    """Run as the command line says; gives the exit status."""
    try:
        given = parse(words, OPTIONS)
    except BadArguments as error:
        return _say(f"Arguments parsing error: {error} \n\nFor more information try --help.", _ARGUMENTS)
    if (answered := _asked(given)) is not None:
        return answered
    if (why := bad_id(given.one("id", "anonymous-instance") or "")) is not None:
        _say(f"Firecracker panicked: Invalid instance ID: {why}", _GENERIC)
        os.kill(os.getpid(), signal.SIGABRT)
    if given.flag("config-file"):
        return _say("the stand-in takes no configuration but by its socket", _GENERIC)
    return asyncio.run(_Process(given).run())


def _asked(given: Arguments) -> int | None:
    """Answer what asks for no machine."""
    if given.flag("help") or given.flag("version"):
        print(f"Firecracker v{VERSION}\n")  # noqa: T201
        return _OK
    if given.flag("snapshot-version"):
        print(f"v{FORMAT}")  # noqa: T201
        return _OK
    if (path := given.one("describe-snapshot")) is None:
        return None
    try:
        version, _ = snapshot.parse(Path(path).read_bytes())
    except (OSError, snapshot.BadState) as error:
        return _say(f"When printing Snapshot Data format: {error}", _GENERIC)
    print(f"v{version}")  # noqa: T201
    return _OK


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"Error: {text}\n")
    return status


@dataclass
class _Process:
    """One run."""

    given: Arguments

    async def run(self) -> int:
        """Listen until the machine, or a load that failed, ends it."""
        faults = Faults()
        await faults.before("start")
        path = Path(self.given.one("api-sock") or _SOCKET)
        with contextlib.ExitStack() as stack:
            try:
                self._open_files()
                sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                sock.bind(str(path))
            except OSError as error:
                return _say(f"RunWithApi(FailedToBindSocket({str(path)!r})): {os_text(error)}", _GENERIC)
            limit = int(self.given.one("http-api-max-payload-size") or _LIMIT)
            mmds = int(self.given.one("mmds-size-limit") or limit)
            guest = Guest(path.parent / "guest")
            vmm = Vmm(self.given.one("id") or "anonymous-instance", mmds, faults, guest)
            stack.callback(vmm.close)
            return await vmm.serve(sock, limit)

    def _open_files(self) -> None:
        for name in ("log-path", "metrics-path"):
            if (path := self.given.one(name)) is not None:
                Path(path).open("ab").close()


class Vmm:
    """A VMM without a process of its own: in a test, it runs in the test's."""

    def __init__(self, instance: str, mmds_limit: int, faults: Faults, guest: Guest):
        self._faults, self._guest = faults, guest
        self._machine = Machine(instance, (VERSION, FORMAT), mmds_limit, faults, guest)
        self._turn = asyncio.Lock()

    async def serve(self, sock: socket.socket, limit: int = _LIMIT) -> int:
        """Answer on a bound socket; gives the exit status once it ends."""
        server = Server(self.answer, limit)
        async with await server.listen(sock):
            fatal, over = (asyncio.ensure_future(wait) for wait in (server.ended.wait(), self._guest.ended()))
            try:
                await asyncio.wait((fatal, over), return_when=asyncio.FIRST_COMPLETED)
                return _GENERIC if fatal.done() else _OK
            finally:
                for task in (fatal, over):
                    task.cancel()
                await asyncio.gather(fatal, over, return_exceptions=True)

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """One request, while no other one is served."""
        async with self._turn:
            step, deprecated = f"{method} {path}", False
            try:
                wanted = requests.read(method, path, body)
                deprecated = wanted.deprecated
                await self._faults.before(step)
                document = await self._machine.do(wanted.action, wanted.value)
                self._faults.after(step)
            except Fault as fault:
                return Answer(fault.status, {"fault_message": fault.text}, deprecated, isinstance(fault, Fatal))
            return Answer(204 if document is None else 200, document, deprecated)

    def close(self) -> None:
        """End the guest and let go of the devices."""
        self._machine.close()
