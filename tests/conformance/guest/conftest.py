"""Guests to ask: one of each driver for a whole module, its workspace emptied between tests, and others at will."""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squib.contracts import ids
from squib.contracts.event import GuestEvent
from squib.contracts.guest import (
    GuestConfig,
    Resume,
    RunRequest,
    RunState,
    RunStatus,
    TerminalRequest,
    TerminalResult,
)
from squib.contracts.machine import Capability, Machine
from squib.host import HostConfig, freezing, probes, ready
from squib.host.bases import Bases
from squib.host.drivers import registry
from squib.host.drivers.base import Driver, Frozen
from squib.host.ground import Ground
from squib.host.images import Images
from squib.host.layout import MachineDir
from squib.host.removal import remove_tree
from squib.link import GuestLink, guest_token, token_digest
from tests.conformance.drivers.bench import KEY, Bench
from tests.conformance.drivers.conftest import machine_spec
from tests.needs import OF_DRIVER

#: Modules on what is the guest's own: no kernel or machine changes it, and they take minutes on some.
OWN = {"test_events", "test_files", "test_git"}
#: Drivers whose machines have the host's kernel, as others' have on which those modules run.
ALIKE = {"container"}
#: Where a kernel of its own runs them, nobody outside sees a machine's processes: so they are looked for inside.
RUNNING = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split("\\0")[:-1]
        if words == sys.argv[1:] and os.stat(f"/proc/{pid}").st_uid == os.getuid():
            print(pid)
    except (OSError, ValueError):
        pass
"""


@dataclass(frozen=True)
class Guest:
    """A guest that answers, as its host reaches it."""

    link: GuestLink
    endpoint: str
    token: str
    owner: int  # the host's user id that its processes have
    place: MachineDir

    async def sh(self, command: str, **more: Any) -> TerminalResult:
        return await self.link.terminal(TerminalRequest(command, **more))

    async def out(self, command: str, **more: Any) -> str:
        result = await self.sh(command, **more)
        assert result.exit_code == 0, result
        return result.stdout

    async def running(self, *words: str) -> list[int]:
        """The guest's own processes with just these arguments, numbered as inside; zombies have none."""
        told = await self.link.terminal(TerminalRequest(["/usr/bin/python3", "-I", "-S", "-c", RUNNING, *words]))
        assert told.exit_code == 0, told
        return [int(pid) for pid in told.stdout.split()]

    async def start(self, prompt: str, **more: Any) -> str:
        run_id = ids.new_id("run")
        status = await self.link.run(RunRequest(run_id, "mock", prompt, **more))
        assert status.state is RunState.RUNNING, status
        return run_id

    async def finished(self, run_id: str) -> tuple[RunStatus, list[GuestEvent]]:
        """Wait for the run's closing event; give its status and all events from its start on."""
        seen: list[GuestEvent] = []
        async for batch in self.link.events(None, 0):
            for event in batch:
                if event.type == "agent.started":
                    seen = [] if event.data["run_id"] == run_id else seen
                seen.append(event)
            if seen[0].data.get("run_id") == run_id and seen[-1].type in ("agent.completed", "agent.failed"):
                break
        status = await self.link.run_status()
        assert status is not None and status.run_id == run_id
        return status, seen


Boot = Callable[..., Awaitable[Guest]]


def resume_request(**changed: Any) -> Resume:
    """What makes somebody else of a guest."""
    values = {
        "sandbox_id": "sbx-2",
        "token_sha256": token_digest("a new token"),
        "hostname": "clone-2",
        "machine_id": os.urandom(16).hex(),
        "entropy": base64.b64encode(os.urandom(64)).decode(),
        "time": time.time(),
    }
    return Resume(**{**values, **changed})


@dataclass(frozen=True)
class Place:
    """A driver that works here, and what it builds on; used from more than one event loop, one after the other."""

    ground: Ground
    driver: Driver
    capability: Capability
    frozen: Frozen | None  # what machines go on from where the processor is software, which makes booting slow

    @property
    def shared_config(self) -> bool:
        """Whether the host can add to a machine's configuration while it runs."""
        return self.frozen is None

    async def create(self, **config: Any) -> Machine:
        spec = machine_spec(self.ground)
        directory = self.ground.state.machine(spec.id)
        directory.root.mkdir(mode=0o711)
        digest = token_digest(guest_token(KEY, spec.id))
        made = GuestConfig(spec.id, digest, "unix:/run/squib/guest/guest.sock", **config)
        if self.frozen is not None and config:
            pytest.skip("its machines are slow to boot: those tests are the other drivers'")
        machine = await self.driver.create(spec, directory.root, made, self.frozen)
        if self.frozen is not None:
            await freezing.wake(self.driver, machine, KEY, self.frozen.spec.id)
        else:
            await ready.wait(machine, self.driver, KEY)
        return machine

    async def destroy(self, machine: Machine) -> None:
        """End it, and see that its supervisor never stumbled."""
        await self.driver.destroy(machine)
        console = (Path(machine.directory) / "console.log").read_text(errors="replace")
        await asyncio.to_thread(remove_tree, Path(machine.directory))
        assert "Traceback" not in console, console

    def guest(self, machine: Machine) -> Guest:
        token = guest_token(KEY, machine.id)
        owner = os.geteuid() if machine.uid is None else machine.uid
        link = GuestLink(machine.endpoint, token, uid=owner)
        return Guest(link, machine.endpoint, token, owner, MachineDir(Path(machine.directory)))


@pytest.fixture(
    scope="package",
    params=[pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ()))) for name in registry.DRIVERS],
)
def place(request: pytest.FixtureRequest, benches: Callable[[str], Bench]) -> Iterator[Place]:
    bench = benches(request.param)
    frozen = None
    if bench.capability.emulated:
        frozen = bench.stored.frozen(Bases(Images(bench.state), bench.config.image).default)
    # Not pytest's own directory: that is closed to other users, and a sandbox has a user of its own.
    state = Path("/tmp", f"sqg-{os.getpid()}-{request.param[:2]}")
    state.mkdir(mode=0o711)
    try:
        bench.teach(state)
        config = HostConfig(state, KEY, driver=request.param, uid_base=230_000, image=bench.image)
        ground = asyncio.run(probes.ground(config))
        try:
            yield Place(ground, registry.make(request.param, ground), bench.capability, frozen)
        finally:
            ground.groups.close()
    finally:
        remove_tree(state)


@pytest.fixture(autouse=True)
def _within_reason(request: pytest.FixtureRequest) -> None:
    """Much of what is the guest's own and no machine's is left to a few drivers, at the processor's speed."""
    place = request.getfixturevalue("place")
    if request.path.stem in OWN and (place.frozen is not None or place.driver.name in ALIKE):
        pytest.skip("those tests are the other drivers'")


@pytest.fixture(scope="package")
def machine(place: Place) -> Iterator[Machine]:
    made = asyncio.run(place.create())
    try:
        yield made
    finally:
        asyncio.run(place.destroy(made))


@pytest.fixture
async def guest(place: Place, machine: Machine) -> AsyncIterator[Guest]:
    """A guest with an empty workspace; it is shared with other tests, so leave nothing running."""
    found = place.guest(machine)
    async with found.link:
        await found.sh("find . -mindepth 1 -delete")
        yield found


@pytest.fixture
async def boot(place: Place) -> AsyncIterator[Boot]:
    """Starts a guest of its own with the given fields of GuestConfig."""
    made: list[tuple[Machine, Guest]] = []

    async def start(**config: Any) -> Guest:
        machine = await place.create(**config)
        made.append((machine, place.guest(machine)))
        return made[-1][1]

    yield start
    for machine, found in made:
        await found.link.aclose()
        await place.destroy(machine)
