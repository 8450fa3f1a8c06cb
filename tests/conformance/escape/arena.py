"""A host with two of its machines and baits around them, and the program of attempts that runs in the first."""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tests
from squib.contracts import ids
from squib.contracts.guest import TerminalRequest, TerminalResult
from squib.contracts.machine import Machine
from squib.contracts.sandbox import SandboxSpec
from squib.gateway import Gateway, Route
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token
from tests.conformance.drivers.bench import KEY, Bench
from tests.conformance.escape.attempts.base import Bait, Neighbour
from tests.conformance.escape.baits import Baits, laid_out
from tests.conformance.escape.upstream import Upstream

#: Where the guest's Python is: the host's own, or an image's.
PYTHON = "/usr/bin/python3"
#: What the gateway adds to requests.
SECRET = "sk-of-the-host-0123456789"
_PACKAGE = "tests.conformance.escape.attempts"
_CLOSED = (
    *("/", "/usr", "/usr/bin", "/usr/local/bin", "/etc", "/dev", "/opt", "/opt/squib", "/run", "/run/squib", "/sys"),
    *("/run/squib/config", "/run/squib/gateway", "/proc", "/home", "/root", "/var", "/boot", "/lib", "/sbin"),
)
#: What listens in the neighbour, on all that it has.
_LISTEN = """
import os, socket, sys
secret, name = sys.argv[1].encode(), sys.argv[2]
tcp, unix = socket.create_server(("0.0.0.0", 0)), socket.socket(socket.AF_UNIX)
unix.bind("\\0" + name)
unix.listen()
print(tcp.getsockname()[1], flush=True)
if os.fork():
    os._exit(0)
os.setsid()
null = os.open("/dev/null", os.O_RDWR)
for descriptor in range(3):
    os.dup2(null, descriptor)
if os.fork():
    tcp = unix
while True:
    tcp.accept()[0].sendall(secret)
"""


@dataclass
class Arena:
    """A host, the attacker's machine and its neighbour."""

    host: Host
    baits: Baits
    machine: Machine
    neighbour: Machine
    neighbours_port: int = 0
    upstream: Upstream = field(default_factory=Upstream)  # where the gateway leads

    def link(self, machine: Machine, **options: Any) -> GuestLink:
        """To that machine's guest."""
        owner = os.geteuid() if machine.uid is None else machine.uid
        return GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=owner, **options)

    async def run(self, command: str | list[str], machine: Machine | None = None, **more: Any) -> TerminalResult:
        """Run a command in the attacker's machine, or in another one."""
        async with self.link(machine or self.machine, timeout=60.0) as link:
            return await link.terminal(TerminalRequest(command, **more))

    async def python(self, program: str, *arguments: str, machine: Machine | None = None) -> TerminalResult:
        """Run a Python program there."""
        return await self.run([PYTHON, "-c", program, *arguments], machine)

    @property
    def bait(self) -> Bait:
        """All that an attacker may aim at."""
        place = Path(self.machine.directory)
        outside = self.host.driver == "process"  # which sees the host's own paths
        config = str(place / "config") if outside else "/run/squib/config"
        guest = str(place / "guest" / "guest.sock") if outside else "/run/squib/guest/guest.sock"
        known = asdict(self.baits)
        del known["asked"]
        return Bait(
            **known,
            directory=str(place),
            machines=str(place.parent),
            readonly=(f"{config}/bait", f"{config}/guest.json", "/opt/squib/guest.pyz"),
            closed=_CLOSED,
            own_kernel=self.host.capability.own_kernel,
            guest=guest,
            secrets=(KEY.decode(), guest_token(KEY, self.machine.id), self.baits.secret, SECRET),
            neighbour=Neighbour(
                self.neighbour.directory,
                self.neighbour.pid or 0,
                guest_token(KEY, self.neighbour.id),
                f"{self.baits.abstract}-neighbour",
                self.neighbours_port,
            ),
        )

    async def attack(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Make these attempts in the attacker's machine; what became of each, by id."""
        order = json.dumps({"bait": asdict(self.bait), "attempts": list(names)})
        async with self.link(self.machine, timeout=100.0) as link:
            await link.write("attempts.pyz", packed())
            done = await link.terminal(TerminalRequest([PYTHON, "attempts.pyz"], stdin=order, timeout_seconds=100))
        assert done.exit_code == 0, done
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return {one["id"]: one for one in found}


def packed() -> bytes:
    """The program of attempts as a zip that Python runs."""
    top = Path(str(tests.__file__)).parent.parent
    package = Path(*_PACKAGE.split("."))
    with io.BytesIO() as content:
        with zipfile.ZipFile(content, "w") as archive:
            for parent in [p for p in package.parents if p != Path()]:
                archive.writestr(f"{parent}/__init__.py", "")
            for source in sorted((top / package).glob("*.py")):
                archive.writestr(f"{package}/{source.name}", source.read_bytes())
            archive.writestr("__main__.py", f"from {_PACKAGE} import runner\n\nrunner.main()\n")
        return content.getvalue()


def made_ready(bench: Bench) -> Bench:
    """Find out all that a bench tells, outside of an event loop."""
    if bench.capability.emulated:
        assert bench.stored.snapshot is not None
    return bench


def config(state: Path, driver: str, bench: Bench) -> HostConfig:
    """A host's configuration for that driver: where booting is slow, its machines go on from the bench's snapshot."""
    state.mkdir(mode=0o711)
    bench.teach(state)
    if not bench.capability.emulated:
        return HostConfig(state, KEY, driver=driver, pool_size=0, image=bench.image)
    (state / "snapshots").symlink_to(bench.stored.path.parent)
    return HostConfig(state, KEY, driver=driver, pool_size=0, image=bench.config.image)


@contextlib.asynccontextmanager
async def arena(
    directory: Path, driver: str, bench: Bench, routes: dict[str, Route] | None = None
) -> AsyncIterator[Arena]:
    """Make one in `directory`, which other users can traverse. The bench has been `made_ready` before."""
    with laid_out(directory) as baits:
        async with Gateway(routes or {}) as gateway, Host(config(directory / "host", driver, bench), gateway) as host:
            machine, neighbour = [
                await host.claim(SandboxSpec(ids.new_id("sbx"), ids.new_id("task"))) for _ in range(2)
            ]
            made = Arena(host, baits, machine, neighbour)
            with contextlib.suppress(OSError):  # where the driver has it on the host at all
                bait = Path(machine.directory) / "config" / "bait"
                bait.write_text("read only")
                bait.chmod(0o444)
            async with made.link(neighbour) as link:
                await link.write("secret", baits.secret.encode())
            said = await made.python(_LISTEN, baits.secret, f"{baits.abstract}-neighbour", machine=neighbour)
            assert said.exit_code == 0, said
            made.neighbours_port = int(said.stdout)
            yield made
