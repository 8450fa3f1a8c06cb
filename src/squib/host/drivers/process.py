"""The guest as a plain process: no isolation at all. For development, and only when it is asked for by name."""

import asyncio
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from squib.contracts.errors import DriverUnavailable
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Isolation, Machine, MachineSpec
from squib.host import interpreters, limits, machines, processes
from squib.host.bases import HOST
from squib.host.cgroups import Limits
from squib.host.drivers.base import Frozen
from squib.host.ground import Ground, limits_of, vacate
from squib.host.layout import MachineDir
from squib.host.machines import Program

TOOLS = "/opt/squib/tools"  # in the configuration's PATH
CHECK_SECONDS = 20.0


class ProcessDriver:
    """Isolation `none`: the agent sees this machine's files and network as the user that it runs under does.

    As root each machine still has a user of its own; as an ordinary user it is that very user.
    """

    name = "process"

    def __init__(self, ground: Ground):
        self._ground = ground
        self._python = ""

    async def probe(self) -> Capability:
        """Find a Python that the machine's user can run."""
        began = time.perf_counter()
        try:
            self._python = await self._find_python()
        except DriverUnavailable as error:
            return Capability(self.name, False, Isolation.NONE, error.detail, error.advice)
        claims = limits.claims(self._ground, own_namespace=False)
        return Capability(
            self.name, True, Isolation.NONE, limits=claims, boot_ms=(time.perf_counter() - began) * 1000
        )

    async def create(
        self, spec: MachineSpec, directory: Path, config: GuestConfig, frozen: Frozen | None = None
    ) -> Machine:
        """Start the guest in the machine's directory; see the protocol."""
        if spec.image != HOST or frozen is not None:
            raise DriverUnavailable(
                "a process has the host's own files: it is made of no image, and never frozen",
                advice="Leave the image out, or name another driver.",
            )
        self._python = self._python or await self._find_python()
        place = MachineDir(directory)
        async with machines.holding(self._ground, self.name, spec, directory) as draft:
            path = machines.write_config(place, self._outside(place, config))
            guest = (self._python, *interpreters.FLAGS, str(self._ground.guest), "serve", "--config", str(path))
            argv = limits.counted(self._ground, spec, guest, own_namespace=False)
            env = {"PATH": self._outside(place, config).path, "HOME": str(place.home), "LANG": "C.UTF-8"}
            return machines.run(self._ground, draft, Program(argv, env))

    async def alive(self, machine: Machine) -> bool:
        """Whether the guest runs."""
        return processes.running(machine.pid, machine.pid_start)

    async def destroy(self, machine: Machine) -> None:
        """End the guest and all that descends from it, and give back what it held."""
        await vacate(self._ground, machine)

    def bounds(self, spec: MachineSpec) -> Limits:
        """What was asked for: the guest is all that runs there."""
        return limits_of(spec)

    def workspace(self, machine: Machine) -> Path | None:
        """The real directory."""
        return MachineDir(Path(machine.directory)).workspace

    def _outside(self, place: MachineDir, config: GuestConfig) -> GuestConfig:
        """The same configuration with this machine's real paths."""
        tools = str(self._ground.tools or "")
        folders = [f.replace(TOOLS, tools, 1) for f in config.path.split(":") if tools or not f.startswith(TOOLS)]
        return replace(
            config,
            listen=f"unix:{place.socket}",
            workspace=str(place.workspace),
            state_dir=str(place.state),
            home=str(place.home),
            gateway=config.gateway and f"unix:{place.gateway_socket}",
            path=":".join(folders),
        )

    async def _find_python(self) -> str:
        """The first interpreter that the machine's user can run. Raises DriverUnavailable."""
        names = interpreters.candidates(self._ground.python)
        if not self._ground.python:
            names.insert(0, interpreters.running())
        uid = self._ground.uids.block.start if self._ground.uids else None
        for name in names:
            finding = await asyncio.to_thread(_check, name, uid)
            if finding is not None and finding.recent:
                return name
        raise DriverUnavailable("no Python >= 3.11 that a machine's user can run", advice=interpreters.ADVICE)


def _check(python: str, uid: int | None) -> interpreters.Finding | None:
    try:
        done = subprocess.run(
            [python, *interpreters.FLAGS, "-c", interpreters.CHECK],
            capture_output=True,
            cwd="/",
            env={},
            timeout=CHECK_SECONDS,
            check=False,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else (),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return interpreters.parse(done.stdout)
