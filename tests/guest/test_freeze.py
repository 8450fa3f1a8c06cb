"""What a guest that is to be frozen holds and has loaded: looked at from outside."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from squib.contracts import codec, ids
from squib.contracts.guest import CommitRequest, FreezeRequest, GuestConfig, RunRequest, TerminalRequest
from squib.guest import bundle
from squib.link import GuestLink, token_digest

THAW = "0123456789abcdef"


@dataclass
class Process:
    """A guest that says what it imports."""

    pid: int
    link: GuestLink
    said: asyncio.StreamReader

    async def until(self, word: str) -> list[str]:
        """All that it says up to a line with that word."""
        lines: list[str] = []
        while not lines or word not in lines[-1]:
            lines.append((await asyncio.wait_for(self.said.readline(), 20)).decode())
            assert lines[-1], lines
        return lines

    def open_files(self, below: Path) -> list[Path]:
        """The files below the directory that it has open or mapped, or is in."""
        place = Path("/proc", str(self.pid))
        links = [path.readlink() for path in [*place.glob("fd/*"), *place.glob("map_files/*"), place / "cwd"]]
        return [link for link in links if link.is_relative_to(below)]


@pytest.fixture
async def process(config: GuestConfig, tmp_path: Path) -> AsyncIterator[Process]:
    bundle.build(tmp_path / "guest.pyz")
    config = GuestConfig(**{**codec.encode(config), "token_sha256": token_digest("token")})
    (tmp_path / "c.json").write_bytes(codec.dumps(config))
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "-I", "-S", tmp_path / "guest.pyz", "serve", "--config"),
        tmp_path / "c.json",
        stderr=asyncio.subprocess.PIPE,
        env={},
        limit=1 << 20,
    )
    assert started.stderr is not None
    async with GuestLink(config.listen, "token") as link:
        made = Process(started.pid, link, started.stderr)
        await made.until("ready at")
        yield made
    with contextlib.suppress(ProcessLookupError):
        started.terminate()
    await asyncio.gather(started.stderr.read(), started.wait())


async def test_it_holds_nothing_outside_and_takes_up_what_is_there_then(process: Process, tmp_path: Path) -> None:
    await process.link.write("file", b"of the first")
    before = await process.link.health()
    assert len(process.open_files(tmp_path)) >= 2  # the workspace and the ring
    await process.link.freeze(FreezeRequest(THAW))
    while (tmp_path / "s").exists():  # noqa: ASYNC110 - that goes last
        await asyncio.sleep(0)
    assert process.open_files(tmp_path) == []

    for name in ("workspace", "state"):  # as a clone of it finds other directories in these places
        (tmp_path / name).rename(tmp_path / f"first-{name}")
        (tmp_path / name).mkdir()
    (tmp_path / "workspace/other").write_bytes(b"of the other")
    (tmp_path / THAW).touch()
    await process.until("ready at")
    assert (await process.link.health()).epoch == before.epoch
    assert await process.link.read("other") == b"of the other"
    assert [entry.path for entry in (await process.link.list()).entries] == ["other"]
    gap = (await anext(process.link.events(None, 0)))[0]
    assert (gap.type, gap.epoch, gap.n, gap.data["last"]) == ("runtime.gap", before.epoch, 1, 1)
    assert (await process.link.terminal(TerminalRequest("cat other"))).stdout == "of the other"


async def test_a_warm_guest_imports_nothing_more(process: Process, tmp_path: Path) -> None:
    await process.link.freeze(FreezeRequest(THAW))
    (tmp_path / THAW).touch()
    await process.until("ready at")
    link = process.link
    await link.terminal(TerminalRequest("git init -q . && echo x > file"))
    await link.commit(CommitRequest("x"))
    await link.diff(None)
    await link.write("another", b"y")
    await link.read("another")
    await link.archive(tmp_path / "archive", max_bytes=1 << 20)
    await link.run(RunRequest(ids.new_id("run"), "mock", "hello"))
    async for batch in link.events(None, 0):
        if any(event.type == "agent.completed" for event in batch):
            break
    async with link.pty(cols=80, rows=24, command="exit 0") as pty:
        async for _ in pty:
            pass
    os.kill(process.pid, signal.SIGTERM)
    assert [line for line in await process.until("ended") if "import time:" in line] == []
