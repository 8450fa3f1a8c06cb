"""What a machine of isolation `namespace` or more sees, and what it is from outside. What it tries: escape/."""

import json
import os
from pathlib import Path

import pytest

from squib.contracts.machine import Isolation
from squib.host import processes
from squib.host.drivers import registry
from tests.conformance.escape.arena import Arena

pytestmark = pytest.mark.asyncio(loop_scope="session")

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
others = sys.argv[1].split(",")
print(json.dumps(dict(
    capabilities={v for k, v in status.items() if k.startswith("Cap")} == {"0" * 16},
    no_new_privileges=ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 1, filtered=status["Seccomp"] == "2",
    not_root=os.getuid() != 0, named=pwd.getpwuid(os.getuid()).pw_dir == os.path.expanduser("~"),
    groups=sorted(set(os.getgroups()) - {os.getgid()}), hostname=socket.gethostname(), umask=os.umask(0o22),
    terminal=os.isatty(0), inherited=[f for f in os.listdir("/proc/self/fd") if int(f) > 3],
    closed=[p for p in ("/etc/shadow", "/root", "/run/squib/uids", "/dev/kmsg", "/dev/mem", "/proc/kcore",
        "/proc/1/root/root", *others) if not closed(p)],
    unwritable=[p for p in ("/", "/usr", "/usr/bin", "/etc", "/dev", "/opt/squib", "/run/squib", "/run/squib/config",
        "/run/squib/gateway") if not unwritable(p)],
    writable=[p for p in ("/workspace", "/tmp", "/home/agent", "/dev/shm") if unwritable(p)],
    first_is_ours="guest.pyz" in open("/proc/1/cmdline").read(),
    devices=sorted(os.listdir("/dev")),
)))
"""


async def test_only_what_isolates_is_taken_by_itself(attacked: Arena) -> None:
    assert "process" not in registry.AUTOMATIC
    assert attacked.host.capability.isolation >= Isolation.NAMESPACE


async def test_a_machine_sees_itself_alone(attacked: Arena) -> None:
    machine, other = attacked.machine, attacked.neighbour
    own = attacked.host.capability.isolation is Isolation.VIRTUAL_MACHINE  # its kernel's and its image's
    others = [
        other.directory,
        machine.directory,
        str(Path(machine.directory).parent),
        *(() if own else ("/sys", "/var")),
    ]
    result = await attacked.python(SEEN, ",".join(others))
    facts = json.loads(result.stdout or result.stderr)
    devices = facts.pop("devices")
    assert facts == {
        "capabilities": True,
        "no_new_privileges": True,
        "filtered": True,
        "not_root": True,
        "named": True,
        "groups": [],
        "hostname": f"squib-{machine.id[-12:]}",
        "umask": 0o022,
        "terminal": False,
        "inherited": [],
        "closed": [],
        "unwritable": [],
        "writable": [],
        "first_is_ours": True,
    }
    if not own:
        assert set(devices) <= {
            *("console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin"),
            *("stdout", "tty", "urandom", "zero"),
        }


async def test_outside_it_is_an_ordinary_user_of_its_own(attacked: Arena) -> None:
    """Every process that is the machine's, as the host sees them: none is root's, none is the neighbour's user."""
    machine, other = attacked.machine, attacked.neighbour
    assert machine.pid is not None
    expected = str(machine.uid if os.geteuid() == 0 else os.getuid())
    assert expected != "0"
    for pid in processes.tree([machine.pid]):
        status = Path(f"/proc/{pid}/status").read_text()
        users = {line.split()[1] for line in status.splitlines() if line.startswith(("Uid:", "Gid:"))}
        assert users == {expected}, Path(f"/proc/{pid}/cmdline").read_bytes()
    assert os.geteuid() != 0 or machine.uid != other.uid


async def test_what_it_makes_belongs_to_that_user(attacked: Arena) -> None:
    machine = attacked.machine
    await attacked.run("touch made")
    made = Path(machine.directory) / "workspace" / "made"
    if not made.exists():  # it is in a disk of its own
        assert attacked.host.capability.isolation is Isolation.VIRTUAL_MACHINE
    elif machine.uid is not None:
        assert made.stat().st_uid == machine.uid


async def test_namespaces_are_its_own(attacked: Arena) -> None:
    capability, pid = attacked.host.capability, attacked.machine.pid
    if capability.isolation is Isolation.VIRTUAL_MACHINE:
        names, filtered = ["net"], Path(f"/proc/{pid}/status").read_text()
        assert "Seccomp:\t2" in filtered, "the emulator itself is under a filter"
    else:  # a kernel of its own numbers its processes itself, wherever that kernel's own process is
        names = ["ipc", "uts", "net", "mnt", "cgroup", *(() if capability.own_kernel else ("pid",))]
    for name in names:
        assert Path(f"/proc/{pid}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink(), name
