"""What a machine of isolation `namespace` or more must not see or do. Each fact is asked for inside it."""

import asyncio
import json
import os
import platform
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from squib.contracts.machine import Capability, Isolation
from squib.host.drivers import registry
from tests.conformance.drivers.conftest import Create, Run
from tests.needs import OF_DRIVER

CALLS = r"""
import ctypes, errno, json, os, platform, socket, struct, fcntl
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"

def call(number, *arguments):
    ctypes.set_errno(0)
    value = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return "done" if value >= 0 else errno.errorcode[ctypes.get_errno()]

def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def write(path):
    with open(path, "r+b", buffering=0) as file:
        file.write(b"x")

numbers = dict(mount=165, umount2=166, unshare=272, setns=308, ptrace=101, process_vm_readv=310, keyctl=250, bpf=321,
    userfaultfd=323, perf_event_open=298, clone=56, clone3=435, io_uring_setup=425, pivot_root=155, chroot=161,
    open_by_handle_at=304, init_module=175, reboot=169, fsopen=430, move_mount=429, pidfd_getfd=438) if x86 else dict(
    mount=40, umount2=39, unshare=97, setns=268, ptrace=117, process_vm_readv=270, keyctl=219, bpf=280,
    userfaultfd=282, perf_event_open=241, clone=220, clone3=435, io_uring_setup=425, pivot_root=41, chroot=51,
    open_by_handle_at=265, init_module=105, reboot=142, fsopen=430, move_mount=429, pidfd_getfd=438)
facts = {}
for name, number in numbers.items():
    if name == "clone":
        for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x80):
            # 17 is SIGCHLD, so that a child that were made after all would be an ordinary one, which ends.
            facts[f"clone {flag:#x}"] = call(number, flag | 17, 0, 0, 0, 0)
    else:
        facts[name] = call(number, 0, 0, 0, 0, 0)
facts["unshare user"] = call(numbers["unshare"], 0x10000000)
master, slave = os.openpty()
for name, command in (("TIOCSTI", 0x5412), ("TIOCSTI with high bits", 0x100005412), ("TIOCLINUX", 0x541C)):
    facts[name] = call(16 if x86 else 29, slave, command, ctypes.c_char_p(b"x"))
facts["AF_ALG"] = attempt(lambda: socket.socket(38, socket.SOCK_SEQPACKET))
facts["AF_VSOCK"] = attempt(lambda: socket.socket(40, socket.SOCK_STREAM))
facts["AF_PACKET"] = attempt(lambda: socket.socket(17, socket.SOCK_RAW))
facts["raw"] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
facts["mknod"] = attempt(lambda: os.mknod("/workspace/device", 0o600 | 0x6000, os.makedev(8, 0)))
for name in ("sys/kernel/core_pattern", "sysrq-trigger", "sys/kernel/hostname", "sys/vm/drop_caches", "kcore"):
    path = f"/proc/{name}"
    facts[path] = attempt(lambda: write(path))
print(json.dumps(facts))
"""

SEEN = r"""
import ctypes, json, os, pwd, socket, sys
status = dict(l.split(":\t", 1) for l in open("/proc/self/status").read().splitlines() if ":\t" in l)
def closed(path):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
    except OSError:
        return True
    return False
def unwritable(path):
    try:
        with open(os.path.join(path, "x"), "w"):
            return False
    except OSError:
        return True
def unreachable(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return True
    return False
def unconnected(name):
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(b"\0" + name.encode())
    except OSError:
        return True
    return False
others, port, abstract = sys.argv[1].split(","), int(sys.argv[2]), sys.argv[3]
print(json.dumps(dict(
    capabilities={v for k, v in status.items() if k.startswith("Cap")} == {"0" * 16},
    no_new_privileges=ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 1, filtered=status["Seccomp"] == "2",
    not_root=os.getuid() != 0, named=pwd.getpwuid(os.getuid()).pw_dir == os.path.expanduser("~"),
    interfaces=[name for _, name in socket.if_nameindex()], hostname=socket.gethostname(),
    host_unreachable=unreachable(port), abstract_unreachable=unconnected(abstract),
    closed=[p for p in ("/etc/shadow", "/root", "/var", "/run/squib/uids", "/sys", "/dev/kmsg", "/dev/mem",
        "/proc/kcore", "/proc/1/root/root", *others) if not closed(p)],
    unwritable=[p for p in ("/", "/usr", "/usr/bin", "/etc", "/dev", "/opt/squib", "/run/squib", "/run/squib/config",
        "/run/squib/gateway") if not unwritable(p)],
    writable=[p for p in ("/workspace", "/tmp", "/home/agent", "/dev/shm") if unwritable(p)],
    own_processes=max(int(p) for p in os.listdir("/proc") if p.isdigit()) < 1000,
    first_is_guest="guest.pyz" in open("/proc/1/cmdline").read(),
    devices=sorted(os.listdir("/dev")),
)))
"""

SYSCTLS = """
import os
for folder, _, names in os.walk("/proc/sys"):
    for name in names:
        try:
            os.close(os.open(os.path.join(folder, name), os.O_WRONLY))
        except OSError:
            continue
        print(os.path.join(folder, name))
"""

# getpid of the 32 bit table by `int 0x80`, and of the x32 one: calls that the native table's filter does not know.
FOREIGN = """
import ctypes, mmap, sys
if sys.argv[1] == "x32":
    ctypes.CDLL(None).syscall(0x40000000 + 39)
else:
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print("done")
"""

REFUSED = "EPERM"
ABSENT = "ENOSYS"


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ()))) for name in registry.AUTOMATIC]
)
def driver_name(request: pytest.FixtureRequest) -> str:
    """Those that isolate: the only ones that `auto` may take."""
    return str(request.param)


def test_a_driver_that_is_taken_by_itself_claims_isolation(capability: Capability) -> None:
    assert capability.isolation >= Isolation.NAMESPACE


@pytest.fixture
def listening() -> Iterator[tuple[int, str]]:
    """A TCP port and an abstract unix name of the host's own."""
    name = f"squib-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0" + name)
        unix.listen()
        yield tcp.getsockname()[1], name


async def test_the_kernel_refuses_what_leads_out(create: Create, run: Run) -> None:
    result = await run(await create(), ["/usr/bin/python3", "-c", CALLS])
    facts = json.loads(result.stdout or result.stderr)
    allowed = {name: got for name, got in facts.items() if got not in (REFUSED, ABSENT, "EACCES", "ENOENT", "EROFS")}
    # Other families of sockets are refused with EAFNOSUPPORT where the kernel lacks them.
    assert {n: g for n, g in allowed.items() if not (n.startswith("AF_") and g == "EAFNOSUPPORT")} == {}
    assert facts["clone3"] == facts["io_uring_setup"] == ABSENT


async def test_a_machine_sees_itself_alone(create: Create, run: Run, listening: tuple[int, str]) -> None:
    machine, other = await create(), await create()
    await run(other, "echo secret > /workspace/secret")
    others = [other.directory, machine.directory, str(Path(machine.directory).parent)]
    argv = ["/usr/bin/python3", "-c", SEEN, ",".join(others), str(listening[0]), listening[1]]
    result = await run(machine, argv)
    facts = json.loads(result.stdout or result.stderr)
    devices = facts.pop("devices")
    assert facts == {
        "capabilities": True,
        "no_new_privileges": True,
        "filtered": True,
        "not_root": True,
        "named": True,
        "interfaces": ["lo"],
        "hostname": "squib",
        "host_unreachable": True,
        "abstract_unreachable": True,
        "closed": [],
        "unwritable": [],
        "writable": [],
        "own_processes": True,
        "first_is_guest": True,
    }
    assert set(devices) <= {
        *("console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin"),
        *("stdout", "tty", "urandom", "zero"),
    }


async def test_no_setting_of_the_kernel_can_be_written(create: Create, run: Run) -> None:
    assert (await run(await create(), ["/usr/bin/python3", "-c", SYSCTLS])).stdout == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only this machine has other tables of calls")
@pytest.mark.parametrize("table", ["x32", "i386"])
async def test_calls_of_another_architecture_end_the_caller(create: Create, run: Run, table: str) -> None:
    result = await run(await create(), ["/usr/bin/python3", "-c", FOREIGN, table])
    assert result.signal == signal.SIGSYS
    assert result.stdout == ""


async def test_outside_it_is_an_ordinary_user_of_its_own(create: Create, run: Run) -> None:
    machine = await create()
    assert machine.pid is not None
    status = Path(f"/proc/{machine.pid}/status").read_text()
    users = {line.split()[1] for line in status.splitlines() if line.startswith(("Uid:", "Gid:"))}
    assert users == {str(machine.uid if os.geteuid() == 0 else os.getuid())}
    assert users != {"0"}
    await run(machine, "touch made")
    assert (Path(machine.directory) / "workspace" / "made").stat().st_uid == int(users.pop())


async def test_namespaces_are_its_own(create: Create, capability: Capability) -> None:
    machine = await create()
    # A kernel of its own numbers its processes itself, wherever that kernel's own process is.
    for name in ("user", "ipc", "uts", "net", "mnt", "cgroup", *(() if capability.own_kernel else ("pid",))):
        assert Path(f"/proc/{machine.pid}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink(), name


async def test_set_user_id_programs_give_nothing(create: Create, run: Run) -> None:
    result = await run(
        await create(), "cp /bin/sh ./sh && chmod 4755 ./sh && ./sh -p -c 'id -u'; su -c id < /dev/null"
    )
    assert result.stdout.split()[:1] == ["1000"]
    assert "uid=0" not in result.stdout


async def test_neighbours_do_not_reach_each_other(create: Create, run: Run) -> None:
    one, other = await asyncio.gather(create(), create())
    await run(other, "nohup /usr/bin/python3 -m http.server 9876 --bind 127.0.0.1 > /dev/null 2>&1 &")
    probe = (
        "import socket,sys\ntry: socket.create_connection(('127.0.0.1', 9876), 1)\nexcept OSError: print('closed')"
    )
    assert (await run(one, ["/usr/bin/python3", "-c", probe])).stdout == "closed\n"
