"""The one who kills, and those who watch: readers that go on where they stood, whatever happens to the server."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from bench.stack import Role
from squib.client import AsyncClient
from squib.client.errors import ServerUnreachable
from squib.contracts.errors import InfrastructureError
from squib.contracts.event import Event
from squib.contracts.task import TaskSpec

_PAUSE = 0.1  # between two tries to reach a server that is away
PAUSES = (0.5, 5.0)  # seconds between a start and the next kill
_AWAY = (InfrastructureError, ServerUnreachable)


@dataclass
class Story:
    """One task as its reader saw it."""

    task_id: str
    events: list[Event] = field(default_factory=list)
    reconnects: int = 0

    @property
    def types(self) -> list[str]:
        """The events' types, in order."""
        return [event.type for event in self.events]

    def told(self) -> str:
        """The story for a person, without the agent's lines."""
        kept = [event for event in self.events if event.data.get("id") != "lines"]
        return "\n".join(f"{e.seq} {e.time:.3f} {e.source} {e.type} {str(e.data)[:300]}" for e in kept)


async def submit(client: AsyncClient, spec: TaskSpec, key: str) -> str:
    """Submit once, however many tries it takes: the key makes the repeats one task."""
    while True:
        try:
            return (await client.tasks.create(spec, idempotency_key=key)).id
        except _AWAY:
            await asyncio.sleep(_PAUSE)


async def read(client: AsyncClient, task_id: str, rng: random.Random) -> Story:
    """Read a task's events to the last one, now and then letting go and coming back; each follows the one before."""
    story = Story(task_id)
    while True:
        try:
            if await _some(client, story, rng.randint(5, 60)):
                return story
        except _AWAY:
            await asyncio.sleep(_PAUSE)
        story.reconnects += 1


async def _some(client: AsyncClient, story: Story, count: int) -> bool:
    """Read at most so many events; whether the stream has ended."""
    stream = cast("AsyncGenerator[Event]", client.tasks.events(story.task_id, after=len(story.events)))
    async with contextlib.aclosing(stream):
        async for event in stream:
            assert event.seq == len(story.events) + 1, f"{event.seq} came after {len(story.events)}"
            story.events.append(event)
            count -= 1
            if not count:
                return False
    return True


async def torment(role: Role, rng: random.Random, done: asyncio.Event, *, look: Callable[[], object]) -> int:
    """Kill the role at random moments and start it again until `done`; says how often.

    A pause begins when the role is started, not when it is ready, so that some kills hit its start. `look` is called
    after each kill, while nothing can change.
    """
    kills = 0
    while True:
        try:
            await asyncio.wait_for(done.wait(), rng.uniform(*PAUSES))
            return kills
        except TimeoutError:
            assert role.running(), f"squib {role.argv[0]} ended by itself:\n{role.tail()}"
            await role.kill()
            look()
            kills += 1
            await role.start()


async def listens(role: Role) -> None:
    """Return once a signal would end the role in good order: one that still loads its code ends as it stands."""
    while True:
        assert role.running(), f"squib {role.argv[0]} ended by itself:\n{role.tail()}"
        status = Path(f"/proc/{role.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught & 1 << (signal.SIGTERM - 1):
            return
        await asyncio.sleep(_PAUSE)


class Machines:
    """All machines that were ever seen, so that what is left of any of them can be found."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "machines"
        self.seen: set[str] = set()

    def look(self) -> None:
        """Note those that are there now."""
        if self._directory.is_dir():
            self.seen |= {path.name for path in self._directory.iterdir()}

    def here(self) -> set[str]:
        """Those whose directories are there now."""
        self.look()
        return {path.name for path in self._directory.iterdir()} if self._directory.is_dir() else set()
