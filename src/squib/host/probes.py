"""What works on this machine: drivers tried by a real boot, and the one to use chosen."""

import asyncio
import contextlib
import functools
import hashlib
import os
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from squib.contracts.errors import DriverUnavailable
from squib.contracts.machine import Capability, MachinePhase
from squib.guest import bundle
from squib.host import cgroups, records, uids
from squib.host.bases import Bases
from squib.host.config import HostConfig
from squib.host.drivers import registry
from squib.host.drivers.base import Driver, Recalling
from squib.host.ground import Ground
from squib.host.images import Images
from squib.host.layout import DRAFTS, StateDir


async def ground(config: HostConfig, *, probing: bool = False) -> Ground:
    """What the drivers build on, with the ids of machines that are there already held.

    The last user id of the block is for probes: `squib doctor` may run beside a squib that hands out the others.
    """
    state = StateDir(config.state_dir)
    state.prepare()
    users = None
    if os.geteuid() == 0:
        block = uids.reserve(config.state_dir, config.uid_base, config.uid_count)
        users = uids.Uids(block[-1:] if probing else block[:-1])
        for place in state.found():
            if (machine := records.load(place.root)) is not None and machine.uid is not None:
                asleep = machine.phase is MachinePhase.SUSPENDED and machine.uid in block
                (users.pin if asleep else users.hold)(machine.uid, machine.id)
    guest = await asyncio.to_thread(_place_guest, config.state_dir)
    bases = Bases(Images(config.state_dir), config.image)
    return Ground(state, guest, cgroups.here(config.state_dir), users, bases, config.tools, config.guest_python)


async def choose(name: str, on: Ground) -> tuple[Driver, Capability]:
    """The driver of that name, or for `auto` the strongest that boots. Raises DriverUnavailable, saying why."""
    failures = []
    for candidate in registry.AUTOMATIC if name == "auto" else (name,):
        driver = registry.make(candidate, on)
        capability = await probe(driver)
        why = passed_by(capability, host_root=on.bases.default.is_host) if name == "auto" else None
        if capability.works and why is None:
            return driver, capability
        failures.append(replace(capability, why_not=why) if capability.works else capability)
    reasons = "; ".join(f"{c.driver}: {c.why_not}" for c in failures)
    advice = " ".join(c.advice for c in failures if c.advice)
    raise DriverUnavailable(f"no sandbox driver works here ({reasons})", advice=advice or None)


def passed_by(capability: Capability, *, host_root: bool) -> str | None:
    """Why `auto` does not take a driver that works; `host_root`: tasks that name no image get the host's own."""
    if capability.emulated:
        return "it has no hardware virtualisation here, and would be slow: name it to use it"
    if capability.needs_image and host_root:
        return "it makes sandboxes of images alone, and no image is named for tasks that name none"
    return None


async def probe(driver: Driver) -> Capability:
    """What works of that driver here, by an earlier probe where it remembers one."""
    known = driver.recall() if isinstance(driver, Recalling) else None
    return known or await driver.probe()


async def probe_all(config: HostConfig) -> list[Capability]:
    """Try every driver that there is, strongest first; takes no lock and changes nothing that a host uses."""
    here = await ground(config, probing=True)
    with contextlib.closing(here.children), contextlib.closing(here.groups):
        return [await registry.make(name, here).probe() for name in registry.DRIVERS]


def _place_guest(state_dir: Path) -> Path:
    """The guest's zipapp under its sources' hash: another version's may be in use by machines that were adopted."""
    digest, content = _guest(state_dir)
    target = state_dir / f"guest-{digest}.pyz"
    if not target.exists():
        draft = state_dir / f"{DRAFTS}{os.getpid()}.pyz"
        draft.write_bytes(content)
        draft.chmod(0o644)
        draft.replace(target)
    return target


@functools.cache
def _guest(state_dir: Path) -> tuple[str, bytes]:
    """The zipapp of the code that runs here, which does not change while it does, and the name of its sources.

    Compiled code is left out of the name: its bytes also depend on what the compiling process did before.
    """
    with tempfile.TemporaryDirectory(prefix=DRAFTS, dir=state_dir) as folder:
        target = Path(folder) / "guest.pyz"
        bundle.build(target)
        name = hashlib.sha256(str(sys.implementation.cache_tag).encode())
        with zipfile.ZipFile(target) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".pyc"):
                    name.update(entry.filename.encode() + b"\0" + archive.read(entry))
        return name.hexdigest(), target.read_bytes()
