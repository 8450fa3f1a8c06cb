"""Machines of gVisor: a kernel of their own in user space, which alone makes system calls of the host.

runsc is started as the machine's own host user in a user namespace where that is user 0, never as the host's root.
All that it holds is in the machine's directory and groups: its state, a private mount namespace, its processes.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, InfrastructureError, SquibError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Capability, Isolation, Machine, MachineSpec
from squib.host import cgroups, interpreters, machines, processes, recall, seccomp
from squib.host.drivers import inside, oci, sandbox, view
from squib.host.ground import MIB, Ground, console_tail, vacate
from squib.host.layout import MachineDir
from squib.host.limits import DISK_SECONDS
from squib.host.machines import Program
from squib.host.removal import remove_tree

BOOT_SECONDS = 30.0
OLDEST = 20240729  # the first in Debian with the platform systrap
CONTAINER = "guest"
#: A limit of the host's that is hit ends the whole machine: what gVisor itself needs must fit as well.
LEAST_MEMORY = 1024  # MiB
LEAST_PROCESSES = 2000
OWN_THREADS = 200
HOST_THREADS_EACH = 4  # of a process inside, at most: its address space's stub and that one's threads
NOT_SUPPORTED = ("lgetxattr", "llistxattr")  # on a link gVisor answers EBADF, which makes `ls -l` fail
_UNBOUNDED = 2**32  # MiB: the limit of a file's size holds inside; outside it would hold for gVisor's memory
_INSTALL = "Install gVisor's runsc, 20240729 or newer (Debian: apt-get install -t bookworm-backports runsc)."
_ADVICE = (
    (r"unshare.*(not permitted|failed)|user namespace", "Allow user namespaces: see `bubblewrap`'s advice."),
    (r"setpriv: .*failed", "Start squib as an ordinary user, or with the capabilities SETUID and SETGID."),
    (r"ermission denied", "Choose a state directory that every user can pass through (chmod o+x its parents)."),
    (r"ython", interpreters.ADVICE),
)


class GvisorDriver:
    """Isolation `userspace kernel`. The guest is process 1 of gVisor's kernel; no network but its loopback."""

    name = "gvisor"

    def __init__(self, ground: Ground):
        self._ground = ground
        self._runsc = shutil.which("runsc") or ""
        self._filter = b""
        self._python = ""

    async def probe(self) -> Capability:
        """Boot a machine that looks at what is held against it, and remember the outcome."""
        began = time.perf_counter()
        try:
            version = await self._find_out()
        except SquibError as error:
            return Capability(self.name, False, Isolation.USERSPACE_KERNEL, error.detail, error.advice)
        boot_ms = (time.perf_counter() - began) * 1000
        recall.remember(self._ground.state, self.name, self._key(), [self._python, version, boot_ms])
        return self._capability(version, boot_ms)

    def recall(self) -> Capability | None:
        """What an earlier probe of these very programs on this kernel found, if it worked."""
        known = recall.recall(self._ground.state, self.name, self._key()) if self._runsc else None
        if known is None:
            return None
        self._python, version, boot_ms = known
        return self._capability(version, boot_ms)

    async def create(self, spec: MachineSpec, directory: Path, config: GuestConfig) -> Machine:
        """Start gVisor and the guest in it; see the protocol."""
        if not self._python and self.recall() is None:
            await self._find_out()
        argv = (self._python, *interpreters.FLAGS, f"{sandbox.CONFIG}/inside.py", f"{sandbox.CONFIG}/filter")
        command = (sandbox.GUEST, "serve", "--config", f"{sandbox.CONFIG}/guest.json")
        async with machines.holding(self._ground, self.name, spec, directory) as draft:
            return await self._boot(draft, config, (*argv, *command))

    async def alive(self, machine: Machine) -> bool:
        """Whether gVisor's kernel runs."""
        return processes.running(machine.pid, machine.pid_start)

    async def destroy(self, machine: Machine) -> None:
        """End gVisor's kernel, its file server and all that they started, and give back what it held."""
        await vacate(self._ground, machine)

    def bounds(self, spec: MachineSpec) -> cgroups.Limits:
        """Its kernel counts too, and dies as a whole at a limit: never less than it needs to live."""
        threads = max(LEAST_PROCESSES, spec.pids * HOST_THREADS_EACH + OWN_THREADS)
        return cgroups.Limits(spec.cpu, max(spec.memory, LEAST_MEMORY) * MIB, threads)

    def workspace(self, machine: Machine) -> Path | None:
        """The directory that is bound at /workspace."""
        return MachineDir(Path(machine.directory)).workspace

    def _capability(self, version: str, boot_ms: float) -> Capability:
        grouped = self._ground.groups.controllers
        limits = [f"{c}: cgroup v{grouped[c]}" for c in ("memory", "cpu") if c in grouped]
        limits += [
            "pids: RLIMIT_NPROC",
            f"disk: each file by RLIMIT_FSIZE, the whole looked at every {DISK_SECONDS:.0f} s",
        ]
        return Capability(
            self.name,
            True,
            Isolation.USERSPACE_KERNEL,
            version=version,
            own_kernel=True,
            limits=tuple(limits),
            boot_ms=boot_ms,
            lacks=("/dev/tty", "raw terminals"),
        )

    async def _boot(self, draft: Machine, config: GuestConfig, argv: Sequence[str]) -> Machine:
        """Start the machine and learn the pid of gVisor's kernel."""
        place = MachineDir(Path(draft.directory))
        machines.write_config(place, config)
        bundle = await asyncio.to_thread(self._bundle, draft, config, argv)
        pid_file = self._prepare_state(draft)
        cgroups.limit(draft.cgroups, self.bounds(draft.spec))
        command = ("run", "--detach", "--bundle", str(bundle), "--pid-file", str(pid_file), CONTAINER)
        program = Program([*_ENTER, *self._options(pid_file.parent), *command], disk=_UNBOUNDED)
        machine = machines.run(self._ground, draft, program)
        await asyncio.wait_for(processes.ended(machine.pid or 0), BOOT_SECONDS)
        try:
            pid = int(pid_file.read_text())
        except (OSError, ValueError) as error:
            detail = console_tail(place.root) or "it said nothing"
            raise InfrastructureError(f"gVisor did not start: {detail}") from error
        return replace(machine, pid=pid, pid_start=processes.start_time(pid))

    def _options(self, state: Path) -> tuple[str, ...]:
        return (
            *(self._runsc, "--root", str(state), "--platform=systrap", "--network=none", "--ignore-cgroups"),
            *("--overlay2=none", "--host-uds=all", "--file-access-mounts=shared"),
        )

    def _prepare_state(self, machine: Machine) -> Path:
        """Make runsc's own directory; gives the path of the file where it leaves the pid."""
        state = Path(machine.directory) / "run"
        state.mkdir(mode=0o700)
        if machine.uid is not None:
            os.chown(state, machine.uid, machine.uid)
        return state / "pid"

    def _bundle(self, machine: Machine, config: GuestConfig, argv: Sequence[str]) -> Path:
        """Write the OCI bundle. Its name has the directory's /config in it, by which strays are found (`ground`)."""
        place = MachineDir(Path(machine.directory))
        _leave(place.config / "inside.py", Path(inside.__file__).read_bytes())
        _leave(place.config / "filter", self._filter or seccomp.program(NOT_SUPPORTED))
        bundle = place.root / "config.oci"
        bundle.mkdir()
        bundle.chmod(0o755)
        entries = [*view.of_root(machine.spec.image), *self._entries(machine, place, config)]
        accounts = dict(
            zip(("/etc/passwd", "/etc/group", "/etc/hosts"), sandbox.accounts(config.hostname), strict=True)
        )
        view.build(bundle / "root", entries, oci.DIRECTORIES, accounts)
        document = oci.document(machine.spec, config, argv, entries, capabilities=("CAP_CHOWN", "CAP_SYS_ADMIN"))
        _leave(bundle / "config.json", json.dumps(document).encode())
        return bundle

    def _entries(self, machine: Machine, place: MachineDir, config: GuestConfig) -> list[view.Bind]:
        """What a machine has besides its root file system."""
        listening = str(Path(config.listen.removeprefix("unix:")).parent)
        entries = [
            view.Bind(str(place.config), sandbox.CONFIG),
            view.Bind(str(place.guest), listening, writable=True),
            view.Bind(str(place.state), config.state_dir, writable=True),
            view.Bind(str(place.gateway), "/run/squib/gateway"),
            view.Bind(str(place.workspace), config.workspace, writable=True),
            view.Bind(str(self._ground.guest), sandbox.GUEST),
            *(view.Bind(mount.source, mount.target) for mount in machine.spec.mounts),
        ]
        if self._ground.tools:
            entries.append(view.Bind(str(self._ground.tools), sandbox.TOOLS))
        if self._ground.python and self._ground.rootfs is None and not self._ground.python.startswith("/usr/"):
            prefix = str(Path(self._ground.python).resolve().parent.parent)
            entries.append(view.Bind(prefix, prefix))
        return entries

    async def _find_out(self) -> str:
        """Check all that a machine needs by booting one. Gives runsc's version. Raises DriverUnavailable."""
        if not self._runsc:
            raise DriverUnavailable("gVisor (runsc) is not installed", advice=_INSTALL)
        if os.geteuid() == 0 and not self._ground.uids:
            raise DriverUnavailable("gVisor must not run as root", advice="Give the host a range of user ids.")
        version = await self._version()
        if (dated := re.search(r"(20\d{6})", version)) is not None and int(dated[1]) < OLDEST:
            raise DriverUnavailable(f"runsc {version} is too old", advice=_INSTALL)
        try:
            self._filter = self._filter or seccomp.program(NOT_SUPPORTED)
        except seccomp.Unavailable as error:
            raise DriverUnavailable(
                f"no system call filter can be made: {error}",
                advice="Install libseccomp (apt-get install libseccomp2).",
            ) from error
        trouble = "there is no Python where the sandbox could see it"
        for python in interpreters.candidates(self._ground.python, self._ground.rootfs or Path("/")):
            trouble = await self._try(python)
            if not trouble:
                self._python = python
                return version
        raise DriverUnavailable(f"no gVisor machine boots: {trouble}", advice=_advice(trouble))

    async def _try(self, python: str) -> str:
        """Boot a machine that runs nothing but the check. Gives what was wrong, or nothing."""
        image = str(self._ground.rootfs) if self._ground.rootfs else "host"
        spec = MachineSpec(ids.new_id("mch"), image=image)
        directory = self._ground.state.machine(spec.id).root
        config = GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock")
        argv = (python, *interpreters.FLAGS, f"{sandbox.CONFIG}/inside.py", f"{sandbox.CONFIG}/filter")
        try:
            async with machines.holding(self._ground, self.name, spec, directory) as draft:
                _leave(MachineDir(directory).config / "check.py", interpreters.CHECK.encode())
                machine = await self._boot(draft, config, (*argv, f"{sandbox.CONFIG}/check.py"))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(processes.ended(machine.pid or 0), BOOT_SECONDS)
                said = console_tail(directory)
                await vacate(self._ground, machine)
        except (InfrastructureError, TimeoutError) as error:
            return str(error) or f"nothing happened for {BOOT_SECONDS:.0f} s"
        finally:
            await asyncio.to_thread(remove_tree, directory)
        finding = interpreters.parse(said.encode())
        if finding is None:
            return said or "the machine ended without a word"
        if finding.capabilities or not finding.filtered:
            return f"the machine is not confined: {finding}"
        return "" if finding.recent else f"{python} is older than 3.11"

    async def _version(self) -> str:
        process = await asyncio.create_subprocess_exec(self._runsc, "--version", stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        return said.decode(errors="replace").partition("\n")[0].rpartition(" ")[2]

    def _key(self) -> list[str]:
        """Names all that the outcome of a probe depends on."""
        programs = (self._runsc, *interpreters.candidates(self._ground.python))
        return [
            *recall.kernel(),
            *(recall.fingerprint(Path(path)) for path in programs),
            str(self._ground.rootfs),
            str(self._ground.python),
            str(os.geteuid()),
        ]


#: Into a user namespace in which the machine's user is user 0, and away from the host's other name spaces.
_ENTER = ("unshare", "--map-root-user", "--mount", "--ipc", "--uts", "--cgroup", "--")


def _leave(path: Path, content: bytes) -> None:
    """Write what the machine's user is to read, whatever this process's umask is."""
    path.write_bytes(content)
    path.chmod(0o444)


def _advice(trouble: str) -> str:
    for pattern, advice in _ADVICE:
        if re.search(pattern, trouble):
            return advice
    return "That is gVisor's own answer: look there for the cause."
