"""One host with its driver and nothing above it: sandboxes and links to their guests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from squib.contracts.ids import new_id
from squib.contracts.machine import Machine
from squib.contracts.sandbox import SandboxSpec
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token

KEY = b"a key for measuring, no secret at all"


def config(state: Path, *, driver: str = "bubblewrap", image: str | None = None, pool_size: int = 0) -> HostConfig:
    """The settings of a host that measures."""
    return HostConfig(state, KEY, driver=driver, image=image, pool_size=pool_size, max_machines=128)


@contextlib.asynccontextmanager
async def host(
    state: Path, *, driver: str = "bubblewrap", image: str | None = None, pool_size: int = 0
) -> AsyncIterator[Host]:
    """A host; its sandboxes end with it."""
    told = config(state, driver=driver, image=image, pool_size=pool_size)
    async with Gateway({}) as gateway, Host(told, gateway) as running:
        yield running


def link(machine: Machine) -> GuestLink:
    """Reach the machine's guest."""
    return GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=machine.uid)


async def ready(running: Host) -> Machine:
    """Claim a sandbox and return once its guest has answered."""
    machine = await running.claim(SandboxSpec(id=new_id("sbx"), task_id=new_id("task")))
    async with link(machine) as guest:
        await guest.health()
    return machine


async def pooled(state: Path, count: int) -> None:
    """Return once so many machines wait for a claim, by their records."""
    async with asyncio.timeout(300):
        while _waiting(state) < count:  # noqa: ASYNC110 - another process's files
            await asyncio.sleep(0.02)


def _waiting(state: Path) -> int:
    found = 0
    for record in state.glob("machines/*/machine.json"):
        with contextlib.suppress(OSError, ValueError):  # it is being made or removed
            found += json.loads(record.read_text())["phase"] == "ready"
    return found


async def clean(running: Host, machines: list[Machine]) -> None:
    """Delete those sandboxes."""
    await asyncio.gather(*(running.delete(m.sandbox_id) for m in machines if m.sandbox_id))
