"""Whether gVisor works here: a machine is booted, looks at what is held against it, is frozen and goes on."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachineSpec
from squib.host import cgroups, interpreters, machines, processes
from squib.host.drivers import gvisor_bundle, gvisor_frozen, gvisor_runsc, gvisor_start, sandbox, trial
from squib.host.drivers.base import Frozen
from squib.host.drivers.gvisor_runsc import Runsc
from squib.host.ground import Ground, console_tail, vacate
from squib.host.layout import MachineDir
from squib.host.removal import remove_tree

log = structlog.get_logger(__name__)
INSTALL = "Install gVisor's runsc, 20240729 or newer (Debian: apt-get install -t bookworm-backports runsc)."
_ADVICE = (
    (r"unshare.*(not permitted|failed)|user namespace", "Allow user namespaces: see `bubblewrap`'s advice."),
    (r"setpriv: .*failed", "Start squib as an ordinary user, or with the capabilities SETUID and SETGID."),
    (r"ermission denied", "Choose a state directory that every user can pass through (chmod o+x its parents)."),
    (r"ython", interpreters.ADVICE),
)
_THAW = "probe-goes-on"
_WENT_ON = "it went on"
#: The check that all drivers make, then a wait in which it is frozen, then a word that only one that goes on says.
_PROGRAM = f"""{interpreters.CHECK}
import os, time
sys.stdout.flush()
while not os.path.exists("{sandbox.CONFIG}/{_THAW}"):
    time.sleep(0.005)
print("{_WENT_ON}")
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What works."""

    python: str  # runs the guest in a machine of the default image
    version: str  # runsc's
    boot_ms: float  # until the check had run
    freezes: bool  # whether it really went on from frozen memory


async def look(ground: Ground, runsc: Runsc, limits: cgroups.Limits) -> Found:
    """Find out by booting a machine. Raises DriverUnavailable."""
    trial.check_ground(ground, "gVisor (runsc)", runsc.path, INSTALL)
    version = await runsc.version()
    if gvisor_runsc.too_old(version):
        raise DriverUnavailable(f"runsc {version} is too old", advice=INSTALL)
    trial.system_call_filter(gvisor_bundle.system_call_filter)
    base, trouble = ground.bases.default, trial.NO_PYTHON
    for python in (base.python,) if base.python else interpreters.candidates(ground.python):
        try:
            boot_ms, freezes = await _try(ground, runsc, limits, base.image, python)
        except (InfrastructureError, TimeoutError) as error:
            trouble = str(error) or f"nothing happened for {gvisor_start.BOOT_SECONDS:.0f} s"
        else:
            return Found(python, version, boot_ms, freezes)
    raise DriverUnavailable(f"no gVisor machine boots: {trouble}", advice=advice(trouble))


def advice(trouble: str) -> str:
    """What to do about it."""
    return trial.advise(trouble, _ADVICE, "That is gVisor's own answer: look there for the cause.")


async def _try(ground: Ground, runsc: Runsc, limits: cgroups.Limits, image: str, python: str) -> tuple[float, bool]:
    """Boot a machine that runs nothing but the check, then freeze it. Raises InfrastructureError or TimeoutError."""
    spec = MachineSpec(ids.new_id("mch"), image=image)
    place = ground.state.machine(spec.id)
    config = GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock")
    beginning = gvisor_start.Beginning(config, gvisor_bundle.arguments(python, f"{sandbox.CONFIG}/check.py"), limits)
    began = time.perf_counter()
    try:
        async with machines.holding(ground, "gvisor", spec, place.root) as draft:
            gvisor_bundle.leave(place.config / "check.py", _PROGRAM.encode())
            machine = await gvisor_start.start(ground, runsc, draft, beginning)
            if trouble := trial.judge(python, await _said(machine, place), trial.confined_by_gvisor):
                raise InfrastructureError(trouble)
            boot_ms = (time.perf_counter() - began) * 1000
            why_not = await _freeze(runsc, machine, place)
            await vacate(ground, machine)
        if not why_not:
            why_not = await _go_on(ground, runsc, spec, place, beginning)
    finally:
        await asyncio.to_thread(remove_tree, place.root)
    if why_not:
        log.warning("gVisor machines can't be frozen here", reason=why_not)
    return boot_ms, not why_not


async def _said(machine: Machine, place: MachineDir) -> str:
    """What the machine has printed once it has printed the check's line, or has ended."""
    async with asyncio.timeout(gvisor_start.BOOT_SECONDS):
        while processes.running(machine.pid, machine.pid_start):
            said = console_tail(place.root)
            if interpreters.parse(said.encode()) is not None:
                return said
            await asyncio.sleep(0.005)
    return console_tail(place.root)


async def _freeze(runsc: Runsc, machine: Machine, place: MachineDir) -> str:
    """Gives what went wrong, or nothing."""
    frozen = place.root / "frozen"
    frozen.mkdir()
    try:
        await gvisor_frozen.write(runsc, machine, gvisor_start.state(machine), frozen)
    except InfrastructureError as error:
        return str(error)
    return ""


async def _go_on(
    ground: Ground, runsc: Runsc, spec: MachineSpec, place: MachineDir, beginning: gvisor_start.Beginning
) -> str:
    """Let it go on from the frozen memory until it ends. Gives what went wrong, or nothing."""
    frozen = Frozen(place.root / "frozen", spec, _THAW)
    try:
        async with machines.holding(ground, "gvisor", spec, place.root) as draft:
            what = gvisor_start.Beginning(beginning.config, beginning.argv, beginning.limits, frozen)
            machine = await gvisor_start.start(ground, runsc, draft, what)
            async with asyncio.timeout(gvisor_start.BOOT_SECONDS):
                await processes.ended(machine.pid or 0)
            await vacate(ground, machine)
    except (InfrastructureError, TimeoutError) as error:
        return str(error) or f"it did not go on within {gvisor_start.BOOT_SECONDS:.0f} s"
    said = console_tail(Path(place.root))
    return "" if said.endswith(_WENT_ON) else f"it did not go on: {said[-200:]}"
