"""One host with its driver and nothing above it: sandboxes and links to their guests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from squib.contracts.ids import new_id
from squib.contracts.machine import Machine
from squib.contracts.sandbox import SandboxSpec
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token

KEY = b"a key for measuring, no secret at all"


@contextlib.asynccontextmanager
async def host(state: Path, *, pool_size: int = 0) -> AsyncIterator[Host]:
    """A host on the bubblewrap driver; its sandboxes end with it."""
    config = HostConfig(state_dir=state, key=KEY, driver="bubblewrap", pool_size=pool_size, max_machines=128)
    async with Gateway({}) as gateway, Host(config, gateway) as running:
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


async def clean(running: Host, machines: list[Machine]) -> None:
    """Delete those sandboxes."""
    await asyncio.gather(*(running.delete(m.sandbox_id) for m in machines if m.sandbox_id))
