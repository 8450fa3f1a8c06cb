"""A run from its process to its outcome, with agents that misbehave: each a small shell script."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from squib.agents.base import Command, Outcome, Turn
from squib.contracts.event import Draft
from squib.contracts.guest import GuestConfig, RunRequest, RunState, RunStatus
from squib.guest.children import Children
from squib.guest.journal import Journal
from squib.guest.run import Run
from squib.guest.supervisor import Places, Supervisor


class Parser:
    """A line `done` is the terminal one; `boom` breaks the parser's promise."""

    def __init__(self) -> None:
        self.finished = False

    def feed(self, line: bytes) -> list[Draft]:
        if line == b"boom":
            raise ValueError("boom")
        self.finished = self.finished or line == b"done"
        return [Draft("agent.message", {"text": line.decode()}, "agent")]

    def finish(self, exit_code: int | None, stderr_tail: str) -> Outcome:
        return Outcome(good=self.finished and exit_code in (0, None), reason=f"{exit_code} {stderr_tail}".strip())


@dataclass
class Script:
    """An agent whose program is the prompt, as a shell script."""

    name: str = "script"
    program: str = "/bin/sh"
    install: str = "Get a shell."
    provider: str | None = None
    guest_options: tuple[str, ...] = ()
    grace: float = 0.2

    def command(self, turn: Turn) -> Command:
        files = {".agent/settings.json": "{}"}
        return Command([self.program, "-c", turn.prompt], {"X": "1"}, turn.prompt.encode(), files, self.grace)

    def parser(self) -> Parser:
        return Parser()


Go = Callable[..., Awaitable[tuple[RunStatus, list[str]]]]


@pytest.fixture
async def guest(config: GuestConfig, children: Children) -> AsyncIterator[Supervisor]:
    async with asyncio.TaskGroup() as group:
        made = Supervisor(config, Journal(), group, children, Places(Path("/guest.json"), Path("/guest.pyz")))
        made.events.begin()
        yield made
    made.events.close()
    made.workspace.close()


@pytest.fixture
def go(guest: Supervisor) -> Go:
    async def run(script: str, agent: Script | None = None, seconds: int = 20) -> tuple[RunStatus, list[str]]:
        made = Run(guest, RunRequest("r1", "script", script, seconds=seconds), agent or Script())
        made.start()
        async with asyncio.timeout(15):
            await made._over.wait()
        frames = guest.events.attach(None).read().decode().split("\n\n")
        return made.status, [f.split('"type":"')[1].split('"')[0] for f in frames if f]

    return run


async def test_good(go: Go) -> None:
    status, types = await go("cat > /dev/null; echo hello; echo done")
    assert (status.state, status.exit_code) == (RunState.SUCCEEDED, 0)
    assert types == ["runtime.ready", "agent.started", "agent.message", "agent.message", "agent.completed"]
    assert status.last_event == 5


async def test_a_last_line_without_its_newline_counts(go: Go) -> None:
    assert (await go("printf done"))[0].state is RunState.SUCCEEDED


async def test_one_that_lives_on_after_its_last_word(go: Go) -> None:
    began = time.monotonic()
    status, _ = await go("echo done; exec sleep 400")
    assert (status.state, status.exit_code) == (RunState.SUCCEEDED, None)
    assert time.monotonic() - began < 10


async def test_one_that_closes_its_output_and_lives_on(go: Go) -> None:
    status, types = await go("echo x; exec >&- 2>&-; sleep 400")
    assert status.state is RunState.FAILED
    assert types[-1] == "agent.failed"


async def test_one_that_never_reads_its_prompt(go: Go) -> None:
    assert (await go("exec <&-; echo done; #" + "x" * 99_000))[0].state is RunState.SUCCEEDED


async def test_one_that_never_ends(go: Go) -> None:
    status, _ = await go("trap '' TERM; while :; do sleep 1; done", seconds=1)
    assert status.state is RunState.TIMED_OUT and status.reason


async def test_a_parser_that_fails_loses_no_line(go: Go) -> None:
    status, types = await go("echo boom; echo done")
    assert status.state is RunState.SUCCEEDED
    assert types[2:4] == ["agent.log", "agent.message"]


async def test_a_program_that_is_not_there(go: Go) -> None:
    status, types = await go("x", Script(program="no-such-agent"))
    assert status.state is RunState.FAILED
    assert status.reason and "Get a shell." in status.reason
    assert types == ["runtime.ready", "agent.failed"]


async def test_standard_error_reaches_the_outcome(go: Go) -> None:
    status, _ = await go("echo 'what went wrong' >&2; exit 3")
    assert status.reason == "3 what went wrong"


async def test_files_are_written_below_home(go: Go, config: GuestConfig) -> None:
    status, _ = await go("test -r $HOME/.agent/settings.json && echo done")
    assert status.state is RunState.SUCCEEDED
