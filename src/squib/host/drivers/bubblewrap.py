"""Machines of namespaces by bubblewrap: the host's kernel, no network, no capability, a system call filter."""

import asyncio
import functools
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from squib.contracts.errors import DriverUnavailable, InfrastructureError, SquibError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Isolation, Machine, MachineSpec
from squib.host import interpreters, limits, machines, pipes, processes
from squib.host.bases import HOST
from squib.host.cgroups import Limits
from squib.host.drivers import sandbox, trial
from squib.host.drivers.base import Frozen
from squib.host.drivers.trial import Trial
from squib.host.ground import Ground, console_tail, limits_of, vacate
from squib.host.layout import MachineDir
from squib.host.machines import Program

BOOT_SECONDS = 20.0
_INSTALL = "Install bubblewrap (apt-get install bubblewrap)."
#: What bubblewrap prints, and what to do about it.
_ADVICE = (
    (
        r"[Nn]o permissions to create|[Cc]reating new namespace|uid map|user namespace",
        "Allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000"
        " kernel.apparmor_restrict_unprivileged_userns=0; in a container, start it with"
        " --security-opt seccomp=unconfined.",
    ),
    (r"setpriv: .*failed", "Start squib as an ordinary user, or with the capabilities SETUID and SETGID."),
    (r"setpriv", "Install setpriv (apt-get install util-linux)."),
    (r"mount proc", "In a container, start it with --security-opt systempaths=unconfined."),
    (r"source path|bind mount", "Choose a state directory that every user can pass through (chmod o+x its parents)."),
    (r"[Uu]nknown option", "Install bubblewrap 0.8 or newer."),
    (r"ython", interpreters.ADVICE),
)
_OTHERWISE = "That is bubblewrap's own answer: look there for the cause."


class BubblewrapDriver:
    """Isolation `namespace`. The guest is process 1 of its own process namespace: with it, all inside ends."""

    name = "bubblewrap"

    def __init__(self, ground: Ground):
        self._ground = ground
        self._bwrap = shutil.which("bwrap") or ""
        self._filter = b""
        self._python = ""

    async def probe(self) -> Capability:
        """Boot a sandbox as a machine's and let it tell what the kernel holds against it."""
        began = time.perf_counter()
        try:
            version = await self._find_out()
        except SquibError as error:
            return Capability(self.name, False, Isolation.NAMESPACE, error.detail, error.advice)
        return Capability(
            self.name,
            True,
            Isolation.NAMESPACE,
            version=version,
            limits=limits.claims(self._ground),
            boot_ms=(time.perf_counter() - began) * 1000,
        )

    async def create(
        self, spec: MachineSpec, directory: Path, config: GuestConfig, frozen: Frozen | None = None
    ) -> Machine:
        """Start the sandbox and its guest; see the protocol."""
        if frozen is not None:
            raise DriverUnavailable("bubblewrap freezes no machine, so that none can go on")
        if not self._filter or not (spec.python or self._python):
            await self._find_out()
        command = ("serve", "--config", f"{sandbox.CONFIG}/guest.json")
        guest = (spec.python or self._python, *interpreters.FLAGS, sandbox.GUEST, *command)
        async with machines.holding(self._ground, self.name, spec, directory) as draft:
            machines.write_config(MachineDir(directory), config)
            return await self._boot(draft, config, limits.counted(self._ground, spec, guest))

    async def alive(self, machine: Machine) -> bool:
        """Whether the sandbox's first process runs."""
        return processes.running(machine.pid, machine.pid_start)

    async def destroy(self, machine: Machine) -> None:
        """End the sandbox and give back what it held."""
        await vacate(self._ground, machine)

    def bounds(self, spec: MachineSpec) -> Limits:
        """What was asked for: the guest is all that runs there."""
        return limits_of(spec)

    def workspace(self, machine: Machine) -> Path | None:
        """The directory that is bound at /workspace."""
        return MachineDir(Path(machine.directory)).workspace

    async def _boot(self, draft: Machine, config: GuestConfig, argv: Sequence[str]) -> Machine:
        """Start bubblewrap and learn the pid, here outside, of the program that it started inside."""
        contents = (*sandbox.accounts(config.hostname), self._filter)
        with pipes.pipe() as info, pipes.memory_files(*contents) as descriptors:
            passwd, group, hosts, program = descriptors
            files = sandbox.Files(passwd, group, hosts, program, info.write)
            place, extra = MachineDir(Path(draft.directory)), self._extra(draft.spec, config)
            options = sandbox.arguments(self._bwrap, draft.spec, place, config, files, extra)
            handed_on = (*descriptors, info.write)
            machine = machines.run(self._ground, draft, Program([*options, *argv], {}, handed_on))
            info.close_write()
            told = await asyncio.wait_for(pipes.read_all(info, 4096), BOOT_SECONDS)
        try:
            pid = int(json.loads(told)["child-pid"])
        except (ValueError, LookupError) as error:
            detail = console_tail(Path(draft.directory)) or "it said nothing"
            raise InfrastructureError(f"bubblewrap did not start: {detail}") from error
        return replace(machine, pid=pid, pid_start=processes.start_time(pid))

    def _extra(self, spec: MachineSpec, config: GuestConfig) -> list[str]:
        """The driver's own read-only binds, and the guest's environment."""
        binds = ["--ro-bind", str(self._ground.guest), sandbox.GUEST]
        if self._ground.tools:
            binds += ["--ro-bind", str(self._ground.tools), sandbox.TOOLS]
        if self._ground.python and spec.image == HOST and not self._ground.python.startswith("/usr/"):
            prefix = str(Path(self._ground.python).resolve().parent.parent)
            binds += ["--ro-bind", prefix, prefix]
        variables = {"PATH": config.path, "HOME": config.home, "LANG": "C.UTF-8"}
        return binds + [part for name, value in variables.items() for part in ("--setenv", name, value)]

    async def _find_out(self) -> str:
        """Check all that a machine needs by booting one. Gives bubblewrap's version. Raises DriverUnavailable."""
        trial.check_ground(self._ground, "bubblewrap (bwrap)", self._bwrap, _INSTALL)
        self._filter = self._filter or trial.system_call_filter()
        end = functools.partial(vacate, self._ground)
        try:
            self._python = await Trial(self._ground, self.name, self._boot, end, BOOT_SECONDS).find_python()
        except InfrastructureError as error:
            advice = trial.advise(error.detail, _ADVICE, _OTHERWISE)
            raise DriverUnavailable(f"no sandbox boots: {error.detail}", advice=advice) from error
        return await self._version()

    async def _version(self) -> str:
        process = await asyncio.create_subprocess_exec(self._bwrap, "--version", stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        return said.decode(errors="replace").strip().rpartition(" ")[2]
