"""A container engine, Podman or Docker, asked by its command line."""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.machine import Machine
from squib.host.drivers import container_root
from squib.host.drivers.container_root import Skeleton
from squib.host.ground import Ground, console_tail

CALL_SECONDS = 30.0
#: Of this process's environment: how an engine finds its user's files, and its daemon.
_PASSED_ON = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG")
#: Run-times to try beside Podman's own choice; crun, which that often is, refuses where control groups are mixed.
_RUNTIMES = ("runc", "crun")
_GVISOR = "runsc"  # the name that gVisor's own set-up registers with Docker
_MAX_SAID = 4000  # characters of an error


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine as it is used here: with which options before each command, and with which run-time."""

    kind: str  # podman or docker
    program: str
    options: tuple[str, ...] = ()
    runtime: str | None = None  # None: the engine's own choice
    grouped: bool = False  # whether a container can be put below a control group of ours

    def __str__(self) -> str:
        return f"{self.kind} with {self.runtime}" if self.runtime else self.kind

    @property
    def is_podman(self) -> bool:
        """Whether it takes Podman's options: a root file system as it lies, and user ids of the container's own."""
        return self.kind == "podman"

    @property
    def is_gvisor(self) -> bool:
        """Whether its containers run on gVisor's kernel."""
        return self.runtime == _GVISOR

    def command(self, *arguments: str) -> list[str]:
        """The whole command line for one command."""
        chosen = ("--runtime", self.runtime) if self.runtime and self.is_podman else ()
        return [self.program, *self.options, *chosen, *arguments]

    async def ask(self, *arguments: str, give: bytes | None = None) -> str:
        """Run a command; gives what it printed. Raises InfrastructureError, saying what went wrong."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments),
            stdin=asyncio.subprocess.DEVNULL if give is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
            cwd="/",
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):
                said, complained = await process.communicate(give)
        except TimeoutError as error:
            raise InfrastructureError(f"{self.kind} {arguments[0]} took over {CALL_SECONDS:.0f} s") from error
        finally:
            await _end(process)
        if process.returncode != 0:
            raise InfrastructureError(complained.decode(errors="replace").strip()[-_MAX_SAID:] or "it said nothing")
        return said.decode(errors="replace")

    async def start(self, arguments: Sequence[str], console: int) -> bool:
        """Run a command that leaves something running, which prints to `console`. Says whether it succeeded.

        It is never ended half-way, also when this is cancelled: what it had begun would have no owner.
        """
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
        waiting = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await asyncio.shield(waiting) == 0
        except BaseException:
            await asyncio.wait([waiting], timeout=CALL_SECONDS)
            raise
        finally:
            await _end(process)

    async def remove(self, name: str) -> None:
        """End and remove a container; absent is fine. Raises InfrastructureError.

        An engine finds a container whose processes were ended behind its back at its second look.
        """
        ending = ("--time", "0") if self.is_podman else ()
        for last in (False, False, True):
            try:
                await self.ask("rm", "--force", *ending, name)
            except InfrastructureError as error:
                if "o such container" in error.detail:
                    return
                if last:
                    raise InfrastructureError(f"{self.kind} can't remove {name}: {error.detail}") from error
            else:
                return

    async def named(self, label: str) -> list[str]:
        """The names of all containers with that label."""
        return (await self.ask("ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}")).split()

    async def version(self) -> str:
        """The engine's, as `podman 4.3.1`."""
        if self.is_podman:
            return f"podman {(await self.ask('--version')).strip().rpartition(' ')[2]}"
        return f"docker {(await self.ask('version', '--format', '{{.Server.Version}}')).strip()}"

    async def pid(self, name: str, pid_file: Path) -> int | None:
        """The container's first process as seen here; None where it has ended already. Raises InfrastructureError."""
        if self.is_podman:
            said = await asyncio.to_thread(pid_file.read_text)
        else:
            said = await self.ask("inspect", "--format", "{{.State.Pid}}", name)
        try:
            return int(said) or None
        except ValueError as error:
            raise InfrastructureError(f"{self.kind} does not tell the pid of {name}: {said[:100]!r}") from error

    async def output(self, machine: Machine) -> str:
        """What the container has printed."""
        if self.is_podman:
            return console_tail(Path(machine.directory))
        return await self.ask("logs", machine.id)

    async def bring(self, skeleton: Skeleton) -> str:
        """The skeleton as an image of the engine's own, imported where it is not there yet. Gives its name."""
        name = _image(skeleton.name)
        try:
            await self.ask("image", "inspect", "--format", "{{.Id}}", name)
        except InfrastructureError:
            content = await asyncio.to_thread(container_root.archive, skeleton.path)
            await self.ask("import", "-", name, give=content)
        return name

    async def forget(self, skeleton: str) -> None:
        """Remove what `bring` has imported under that skeleton's name, unless another installation uses it."""
        if not self.is_podman:
            with contextlib.suppress(InfrastructureError):
                await self.ask("image", "rm", _image(skeleton))

    def saved(self) -> bytes:
        """For a file from which another process learns how to reach the same containers."""
        return json.dumps([self.kind, self.program, self.options, self.runtime, self.grouped]).encode()

    @classmethod
    def load(cls, content: bytes) -> "Engine":
        """What `saved` gave. Raises ValueError."""
        kind, program, options, runtime, grouped = json.loads(content)
        return cls(kind, program, tuple(options), runtime, grouped)


def find(ground: Ground) -> Iterator[Engine]:
    """The engines that are installed, each with the run-times that it may use, the stronger engine first."""
    if program := shutil.which("podman"):
        place = ground.state.root / "podman"
        place.mkdir(mode=0o711, exist_ok=True)  # the containers' users pass through
        place.chmod(0o711)
        others = [name for name in _RUNTIMES if _which(name)]
        old = 1 in ground.groups.controllers.values()
        for runtime in (*others, None) if old else (None, *others):
            yield Engine("podman", program, _podman_options(place), runtime, grouped=os.geteuid() == 0)
    if program := shutil.which("docker"):
        yield Engine("docker", program)


async def look(engine: Engine) -> list[Engine]:
    """The ways to use it that it tells of, the strongest first. Raises InfrastructureError."""
    if engine.is_podman:
        return [engine]
    facts = json.loads(await engine.ask("info", "--format", "{{json .}}"))
    if facts.get("ServerErrors"):
        raise InfrastructureError("; ".join(facts["ServerErrors"])[-_MAX_SAID:])
    if facts.get("KernelVersion") != os.uname().release:
        raise InfrastructureError(f"its containers run on another kernel ({facts.get('OperatingSystem')})")
    usual = replace(engine, grouped=os.geteuid() == 0 and facts.get("CgroupDriver") == "cgroupfs")
    registered = [replace(usual, runtime=_GVISOR)] if _GVISOR in (facts.get("Runtimes") or {}) else []
    return [*registered, usual]


def programs() -> list[str]:
    """All that containers are made by."""
    names = ("podman", "conmon", *_RUNTIMES, "docker")
    return [_which(name) or name for name in names]


def environment() -> dict[str, str]:
    """What an engine's program is told of this process's own environment."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _image(skeleton: str) -> str:
    return f"localhost/squib-root:{skeleton}"


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


def _podman_options(place: Path) -> tuple[str, ...]:
    """Storage of this installation's own, apart from its user's containers, and gone with the state directory.

    It holds no layers, so that the plain driver does, which leaves no mount behind.
    """
    folders = ("--root", str(place / "storage"), "--runroot", str(place / "run"), "--tmpdir", str(place / "tmp"))
    manager = ("--cgroup-manager", "cgroupfs") if os.geteuid() == 0 else ()
    return (*folders, "--storage-driver", "vfs", "--events-backend", "none", *manager)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
