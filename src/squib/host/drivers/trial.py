"""Tries a driver by booting a machine that only looks at itself: what the drivers' probes have in common."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachineSpec
from squib.host import interpreters, limits, machines, processes, seccomp
from squib.host.bases import Base
from squib.host.ground import Ground, console_tail
from squib.host.interpreters import Finding
from squib.host.removal import remove_tree

#: A pattern of what programs print, and what to do about it.
Advice = Sequence[tuple[str, str]]
LIBSECCOMP = "Install libseccomp (apt-get install libseccomp2)."
NO_PYTHON = "there is no Python where the sandbox could see it"


def confined(finding: Finding) -> bool:
    """Whether the host's own kernel holds against a machine what it must."""
    return finding.confined


def confined_by_gvisor(finding: Finding) -> bool:
    """Whether gVisor's kernel shows what it must: it says nothing of new privileges."""
    return finding.capabilities == 0 and finding.filtered


@dataclass(frozen=True, slots=True)
class Trial:
    """How one driver's machines are begun and ended, for machines that run nothing but the check."""

    ground: Ground
    driver: str
    boot: Callable[[Machine, GuestConfig, Sequence[str]], Awaitable[Machine]]
    end: Callable[[Machine], Awaitable[None]]
    seconds: float  # that a boot may take
    output: Callable[[Machine], Awaitable[str]] | None = None  # what it has printed; None: what its console holds
    confined: Callable[[Finding], bool] = confined
    program: Sequence[str] = ("-c", interpreters.CHECK)  # what Python is given to run the check

    async def find_python(self) -> str:
        """The first Python under which the guest can run in a machine of the default image, confined.

        Raises InfrastructureError, saying what was wrong with the last one.
        """
        base = self.ground.bases.default
        trouble = NO_PYTHON
        for python in (base.python,) if base.python else interpreters.candidates(self.ground.python):
            trouble = await self.once(python, base)
            if not trouble:
                return python
        raise InfrastructureError(trouble)

    async def once(self, python: str, base: Base) -> str:
        """Boot one machine. Gives what was wrong, or nothing."""
        spec = MachineSpec(ids.new_id("mch"), image=base.image)
        directory = self.ground.state.machine(spec.id).root
        config = GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock")
        argv = limits.counted(self.ground, spec, (python, *interpreters.FLAGS, *self.program))
        try:
            async with machines.holding(self.ground, self.driver, spec, directory) as draft:
                machine = await self.boot(draft, config, argv)
                if machine.pid is not None:
                    await asyncio.wait_for(processes.ended(machine.pid), self.seconds)
                said = await self.output(machine) if self.output else console_tail(directory)
                await self.end(machine)
        except (InfrastructureError, TimeoutError) as error:
            return str(error) or f"nothing happened for {self.seconds:.0f} s"
        finally:
            await asyncio.to_thread(remove_tree, directory)
        return judge(python, said, self.confined)


def judge(python: str, said: str, confined: Callable[[Finding], bool]) -> str:
    """What is wrong with a machine whose check said so; nothing where all is well."""
    finding = interpreters.parse(said.encode())
    if finding is None:
        return said or "the machine ended without a word"
    if not confined(finding):
        return f"the machine is not confined: {finding}"
    return "" if finding.recent else f"{python} is older than 3.11"


def check_ground(ground: Ground, what: str, program: str, install: str) -> None:
    """Raise DriverUnavailable where `what` is not installed, or has no users of its own to start machines as."""
    if not program:
        raise DriverUnavailable(f"{what} is not installed", advice=install)
    if os.geteuid() == 0 and not ground.uids:
        raise DriverUnavailable(f"{what} must not run as root", advice="Give the host a range of user ids.")


def system_call_filter(compile_: Callable[[], bytes] = seccomp.program) -> bytes:
    """The filter's program. Raises DriverUnavailable where none can be made."""
    try:
        return compile_()
    except seccomp.Unavailable as error:
        raise DriverUnavailable(f"no system call filter can be made: {error}", advice=LIBSECCOMP) from error


def advise(trouble: str, known: Advice, otherwise: str) -> str:
    """What to do about it: the first whose pattern is in what was said."""
    return next((what for pattern, what in known if re.search(pattern, trouble)), otherwise)
