"""The first program of a machine: in namespaces of its own, as near to a virtual machine as a test can have it."""

import asyncio
import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from squib.contracts import codec
from squib.contracts.errors import Conflict, SquibError
from squib.contracts.guest import FreezeRequest, GuestConfig, Resume, TerminalRequest
from squib.guest import bundle
from squib.guest.init import UID
from squib.host import seccomp
from squib.link import GuestLink, token_digest

#: A /dev and a /tmp of its own, and the clock, which is everybody's, is not to be set: all else is as in a machine.
_START = """
mount -t tmpfs dev "$1/dev"
for node in null zero urandom tty; do touch "$1/dev/$node" && mount --bind /dev/$node "$1/dev/$node"; done
mount --rbind "$1/dev" /dev
mount --bind "$1" /mnt && mount -t tmpfs tmp /tmp && mkdir "$1" && mount --move /mnt "$1"
shift
exec setpriv --bounding-set=-sys_time --inh-caps=-sys_time -- "$@"
"""
_SHOWN = {
    "Uid Gid": [str(UID)] * 4,
    "CapEff CapPrm CapInh CapBnd": ["0" * 16],
    "Groups": [],
    "NoNewPrivs": ["1"],
    "Seccomp": ["2"],
}


NEEDS = pytest.mark.needs("root", "unshare", "setpriv", "libseccomp")


@dataclass
class Machine:
    link: GuestLink
    process: asyncio.subprocess.Process

    async def out(self, command: str) -> str:
        done = await self.link.terminal(TerminalRequest(command))
        assert done.exit_code == 0, done
        return done.stdout.strip()


@pytest.fixture
def config(shared_tmp: Path) -> GuestConfig:
    bundle.build(shared_tmp / "guest.pyz")
    (shared_tmp / "filter").write_bytes(seccomp.program())
    for name in ("workspace", "state", "home", "dev"):
        (shared_tmp / name).mkdir()
        os.chown(shared_tmp / name, UID, UID)
    return GuestConfig(
        *("sbx-1", token_digest("token"), f"unix:{shared_tmp}/workspace/s"),
        workspace=f"{shared_tmp}/workspace",
        state_dir=f"{shared_tmp}/state",
        home=f"{shared_tmp}/home",
    )


@pytest.fixture
async def process(shared_tmp: Path, config: GuestConfig) -> AsyncIterator[asyncio.subprocess.Process]:
    (shared_tmp / "c.json").write_bytes(codec.dumps(config))
    started = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork"),
        *("sh", "-ec", _START, "sh", shared_tmp, "/usr/bin/python3", "-I", "-S", shared_tmp / "guest.pyz", "init"),
        *("--config", shared_tmp / "c.json", "--filter", shared_tmp / "filter"),
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "SECRET": "x"},
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            for child in _children(started.pid):  # with it all in its namespace ends
                os.kill(child, signal.SIGKILL)
        await started.wait()


@pytest.fixture
async def machine(process: asyncio.subprocess.Process, config: GuestConfig) -> AsyncIterator[Machine]:
    assert process.stderr is not None
    said = b""
    while b"ready" not in said:
        line = await asyncio.wait_for(process.stderr.readline(), 20)
        assert line, said
        said += line
    async with GuestLink(config.listen, "token", uid=UID) as link:
        yield Machine(link, process)


def _resume(**changed: object) -> Resume:
    entropy = base64.b64encode(os.urandom(64)).decode()
    values = {"hostname": "other-1", "machine_id": "0123456789abcdef" * 2, "entropy": entropy, "time": time.time()}
    return Resume("sbx-1", token_digest("token"), **{**values, **changed})  # type: ignore[arg-type]


@NEEDS
async def test_a_machines_whole_life(machine: Machine) -> None:
    for pid in ("1", "self"):  # the supervisor, and what it starts
        lines = (await machine.out(f"cat /proc/{pid}/status")).splitlines()
        status = dict(line.split(":\t") for line in lines if ":\t" in line)
        for names, values in _SHOWN.items():
            for name in names.split():
                assert (name, status[name].split()) == (name, values)
    helper = (await machine.out("cat /proc/1/task/1/children")).split()[0]
    assert "Uid:\t0\t" in await machine.out(f"cat /proc/{helper}/status")
    for refused in (
        f"kill -9 {helper}",
        "ls /proc/1/fd",
        "cat /proc/1/environ",
        "cat /proc/1/mem",
        "ls -l /dev/.squib/x",
    ):
        assert (await machine.link.terminal(TerminalRequest(refused))).exit_code != 0
    assert "SQUIB_HELPER" not in await machine.out("env")
    await machine.out("kill -9 1; (setsid sleep 0 &); until ! grep -l '^State:.*Z' /proc/[0-9]*/status; do :; done")

    await machine.link.freeze(FreezeRequest())
    before = await machine.link.health()
    ids = "hostname; cat /etc/machine-id /etc/hosts /proc/sys/kernel/random/boot_id"
    seen = set()
    for name in ("other-1", "other-2"):
        after = await machine.link.resume(_resume(hostname=name, machine_id=name[-1] * 32))
        assert after.epoch != before.epoch
        events = [event.type async for batch in _until_quiet(machine.link) for event in batch]
        assert events == ["runtime.ready"]  # and no word of a step that failed
        host, own_id, *hosts, boot_id = (await machine.out(ids)).splitlines()
        assert (host, own_id, hosts[0]) == (name, name[-1] * 32, f"127.0.0.1 localhost {name}")
        seen.add(boot_id)
    assert len(seen) == 2 and socket.gethostname() not in ("other-1", "other-2")
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() not in seen

    await machine.out("setsid sleep 400 > /dev/null 2>&1 & echo $! > pid")
    (child,) = _children(machine.process.pid)
    os.kill(child, signal.SIGTERM)
    assert await asyncio.wait_for(machine.process.wait(), 20) != 0  # it was switched off, not left
    with pytest.raises(SquibError):
        await machine.link.health()


async def _until_quiet(link: GuestLink) -> AsyncIterator[list]:
    async for batch in link.events(None, 0):
        yield batch
        return


@NEEDS
async def test_without_its_helper_a_machine_is_not_frozen(machine: Machine) -> None:
    (first,) = _children(machine.process.pid)
    os.kill(_children(first)[0], signal.SIGKILL)
    with pytest.raises(Conflict, match="gone"):
        await machine.link.freeze(FreezeRequest())
    assert await machine.out("echo on") == "on"


@pytest.fixture
def no_workspace(config: GuestConfig) -> None:
    Path(config.workspace).rmdir()


@NEEDS
async def test_a_machine_whose_guest_cannot_start_ends(
    no_workspace: None, process: asyncio.subprocess.Process
) -> None:
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode != 0
    assert b"cannot start" in said and b"Traceback" not in said


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    "arguments", [[], ["--config", "x"], ["--config", "x", "--y", "z"], ["--config", "x", "--filter", "y"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    program = "import sys; from squib.guest.__main__ import main; sys.exit(main(['init', *sys.argv[1:]]))"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith((b"usage: ", b"init: "))
