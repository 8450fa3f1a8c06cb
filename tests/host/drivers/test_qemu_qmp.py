"""The client of QEMU's protocol against a QEMU that answers as it should, and against one that was taken over."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts.errors import InfrastructureError
from squib.host.drivers import qemu_qmp

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'
READY = GREETING + b'{"return": {}}\n'


@contextlib.asynccontextmanager
async def saying(path: Path, *lines: bytes) -> AsyncIterator[None]:
    """A monitor that says all that at once and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(lines))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


async def test_events_between_are_passed_over(shared_tmp: Path) -> None:
    path = shared_tmp / "control.sock"
    answer = b'{"event": "STOP"}\n{"return": {"status": "paused"}}\n'
    async with saying(path, READY, answer), qemu_qmp.connected(path) as monitor:
        assert await monitor.command("query-status") == {"status": "paused"}


async def test_a_refusal_is_told_in_its_own_words(shared_tmp: Path) -> None:
    path = shared_tmp / "control.sock"
    answer = json.dumps({"error": {"class": "GenericError", "desc": "no such thing"}}).encode() + b"\n"
    async with saying(path, READY, answer), qemu_qmp.connected(path) as monitor:
        with pytest.raises(InfrastructureError, match="refused stop: no such thing"):
            await monitor.command("stop")


@pytest.mark.parametrize("said", [b"not json\n", b"x" * (qemu_qmp.MAX_LINE + 2), b"[1, 2]\n", b'{"error": "x"}\n'])
async def test_nonsense_is_an_error_and_no_more(shared_tmp: Path, said: bytes) -> None:
    path = shared_tmp / "control.sock"
    async with saying(path, READY, said), qemu_qmp.connected(path) as monitor:
        with pytest.raises(InfrastructureError):
            await monitor.command("stop")


async def test_one_that_is_gone_can_not_be_reached(shared_tmp: Path) -> None:
    path = shared_tmp / "control.sock"
    with pytest.raises(InfrastructureError, match="can't be reached"):
        async with qemu_qmp.connected(path):
            pass
    with qemu_qmp.listening(path):
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InfrastructureError, match="can't be reached"):
        async with qemu_qmp.connected(path):
            pass
