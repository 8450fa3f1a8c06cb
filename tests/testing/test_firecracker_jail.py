"""The stand-in jailer: what it makes of a jail, and what it refuses."""

import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from squib.host import processes
from squib.host.firecracker import models
from squib.host.firecracker.client import Firecracker
from squib.host.firecracker.command import Jail, Jailer
from squib.host.firecracker.errors import VmmEnded, VmmRefused
from tests.testing.programs import UID, Programs, ended, started


@pytest.fixture
def jail(programs: Programs, shared_tmp: Path) -> Jail:
    base = shared_tmp / "jails"
    base.mkdir(mode=0o755)
    return Jail(base, programs.firecracker, "mch-1")


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A network namespace that a process holds."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield Path(f"/proc/{holder.pid}/ns/net")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def facts(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def prepare(jail: Jail) -> None:
    """What a driver does before: the socket's directory has to be there for whoever waits for it."""
    (jail.root / "run").mkdir(parents=True)


@pytest.mark.needs("root", "unshare")
async def test_a_jail(programs: Programs, jail: Jail, namespace: Path) -> None:
    prepare(jail)
    argv = Jailer(jail, UID, UID, netns=str(namespace), cgroup_version=1, no_file=300).argv(programs.jailer)
    socket = jail.outside("/run/firecracker.socket")
    async with started(argv, SECRET="s") as process, Firecracker(socket, uid=UID) as client:
        await client.listening(process.pid)
        assert (await client.info()).id == "mch-1"
        found, proc = facts(process.pid), Path(f"/proc/{process.pid}")
        assert (found["Uid"].split(), found["Gid"].split()) == ([str(UID)] * 4, [str(UID)] * 4)
        assert (found["Groups"], found["CapEff"]) == ("", "0" * 16)
        assert (proc / "ns/net").readlink() == namespace.readlink()
        assert (proc / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
        assert b"SECRET" not in (proc / "environ").read_bytes()
        assert "Max open files            300" in (proc / "limits").read_text()
        assert not (proc / "root/var").exists()
        assert jail.pid_file.read_text() == str(process.pid)
        with pytest.raises(VmmRefused, match="No such file"):
            await client.put_boot(models.BootSource("/etc/passwd"))
        check_root(jail)


def check_root(jail: Jail) -> None:
    """What a jail's root is on the host's disk."""
    assert (jail.root.stat().st_mode & 0o777, jail.root.stat().st_uid) == (0o700, UID)
    for name, numbers in (("net/tun", (10, 200)), ("kvm", (10, 232)), ("urandom", (1, 9))):
        made = (jail.root / "dev" / name).stat()
        assert stat.S_ISCHR(made.st_mode)
        assert (os.major(made.st_rdev), os.minor(made.st_rdev), made.st_uid) == (*numbers, UID)
    assert list((jail.root / "usr").iterdir()) == []  # in its own mounts alone


@pytest.mark.needs("root")
async def test_a_jail_with_processes_of_its_own(programs: Programs, jail: Jail) -> None:
    prepare(jail)
    async with started(Jailer(jail, UID, UID, cgroup_version=1, new_pid_ns=True).argv(programs.jailer)) as jailer:
        assert await jailer.wait() == 0
    async with detached(jail) as pid:
        assert facts(pid)["NSpid"].split() == [str(pid), "1"]


@pytest.mark.needs("root")
async def test_a_jail_in_the_background(programs: Programs, jail: Jail) -> None:
    prepare(jail)
    assert ended(*Jailer(jail, UID, UID, cgroup_version=1, daemonize=True).argv(programs.jailer)) == (0, "")
    async with detached(jail) as pid:
        assert os.getsid(pid) not in (pid, os.getsid(0))
        assert Path(f"/proc/{pid}/fd/1").readlink() == Path("/dev/null")


@contextlib.asynccontextmanager
async def detached(jail: Jail) -> AsyncIterator[int]:
    """The pid of a VMM that is nobody's child, once it listens; ended afterwards."""
    async with Firecracker(jail.outside("/run/firecracker.socket"), uid=UID) as client:
        await client.listening(os.getpid())
        pid = int(jail.pid_file.read_text())
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)
            await processes.ended(pid)


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (("--id", "a_b"), "Invalid instance ID: Invalid char (_) at position 1"),
        (("--uid", "x"), "Invalid uid: x"),
        (("--exec-file", "/none"), "No such file or directory"),
        (("--netns", "/none"), "Failed to open file /none: No such file or directory"),
        (("--cgroup", "memory"), "Invalid format for cgroups: memory"),
        (("--cgroup", "none.max=1"), "Controller none is unavailable"),
        (("--cgroup-version", "3"), "3 is an invalid cgroup version specifier"),
        (("--parent-cgroup", "/abs"), "Parent cgroup path is invalid."),
        (("--resource-limit", "cpu=1"), "Invalid resource argument: cpu"),
        (("--resource-limit", "fsize"), "Invalid format for resources limits: fsize"),
    ],
)
def test_jails_that_can_not_be(programs: Programs, jail: Jail, extra: tuple[str, str], text: str) -> None:
    argv = Jailer(jail, UID, UID, cgroup_version=1).argv(programs.jailer)
    if extra[0] in argv:
        argv[argv.index(extra[0]) + 1] = extra[1]
    else:
        argv[1:1] = extra
    code, said = ended(*argv)
    assert code == 1
    assert text in said


@pytest.mark.needs("root")
async def test_faults_beside_the_program_reach_the_jail(programs: Programs, jail: Jail) -> None:
    prepare(jail)
    programs.faults.write_text('{"start": {"do": "die", "code": 150}}')
    async with started(Jailer(jail, UID, UID, cgroup_version=1).argv(programs.jailer)) as process:
        with pytest.raises(VmmEnded):
            await Firecracker(jail.outside("/run/firecracker.socket")).listening(process.pid)
        assert await process.wait() == 150


def memory_groups() -> Path | None:
    """Where version 1 has its memory controller."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((Path(line[1]) for line in lines if line[2] == "cgroup" and "memory" in line[3].split(",")), None)


@pytest.mark.needs("root")
async def test_control_groups_of_version_1(programs: Programs, jail: Jail) -> None:
    groups = memory_groups()
    if groups is None:
        pytest.skip("no memory controller of version 1 is mounted here")
    prepare(jail)
    limits = (("memory.limit_in_bytes", str(2**28)),)
    parent = f"squib-test-{os.getpid()}"
    argv = Jailer(jail, UID, UID, cgroup_version=1, parent_cgroup=parent, cgroups=limits).argv(programs.jailer)
    group = groups / parent / "mch-1"
    try:
        socket = jail.outside("/run/firecracker.socket")
        async with started(argv) as process, Firecracker(socket) as client:
            await client.listening(process.pid)
            assert (group / "memory.limit_in_bytes").read_text() == f"{2**28}\n"
            assert str(process.pid) in (group / "tasks").read_text().split()
    finally:
        for path in (group, group.parent):
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
