"""One run of a misbehaving agent, as a program: a run ends whatever it finds left behind, so it has its own process.

Reads a JSON document from standard input, and prints how the run went.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from squib.agents.base import Command, Outcome, Turn
from squib.contracts import codec
from squib.contracts.event import Draft
from squib.contracts.guest import GuestConfig, RunRequest
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

    program: str
    name: str = "script"
    install: str = "Get a shell."
    provider: str | None = None
    guest_options: tuple[str, ...] = ()

    def command(self, turn: Turn) -> Command:
        files = {".agent/settings.json": "{}"}
        return Command([self.program, "-c", turn.prompt], {"X": "1"}, turn.prompt.encode(), files, 0.2)

    def parser(self) -> Parser:
        return Parser()


async def _run(config: GuestConfig, request: RunRequest, program: str) -> dict[str, object]:
    with Children() as children:
        async with asyncio.TaskGroup() as group:
            guest = Supervisor(config, Journal(), group, children, Places(Path("/guest.json"), Path("/guest.pyz")))
            guest.events.begin()
            run = Run(guest, request, Script(program))
            run.start()
            async with asyncio.timeout(15):
                await run._over.wait()
        frames = guest.events.attach(None).read().decode().split("\n\n")
        guest.events.close()
        guest.workspace.close()
    return {"status": asdict(run.status), "types": [f.split('"type":"')[1].split('"')[0] for f in frames if f]}


def main() -> None:
    """Run what standard input says."""
    asked = json.load(sys.stdin)
    config = codec.loads(GuestConfig, json.dumps(asked["config"]))
    request = RunRequest("r1", "script", asked["script"], seconds=asked["seconds"])
    json.dump(asyncio.run(_run(config, request, asked["program"])), sys.stdout)


if __name__ == "__main__":
    main()
