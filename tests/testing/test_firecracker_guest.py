"""A real guest in the stand-in's machine: jailed, in a network room, frozen, and gone on with in another jail."""

import asyncio
import ctypes
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from squib.contracts import codec
from squib.contracts.errors import SquibError
from squib.contracts.guest import GuestConfig, Resume, TerminalRequest
from squib.guest import bundle
from squib.host import processes
from squib.host.firecracker import models
from squib.host.firecracker.client import Firecracker
from squib.host.firecracker.command import Jail, Jailer
from squib.host.vm import cpio
from squib.link import GuestLink, token_digest
from tests.testing.programs import UID, Programs, started

T = TypeVar("T")
PORT = 8991
KERNEL, INITRD, ROOT, OVERLAY, STATE, MEMORY = "/vmlinux", "/initrd", "/root.img", "/overlay.img", "/state", "/memory"
_ROOM = f"ip link set lo up; ip tuntap add tap0 mode tap user {UID}; ip addr add 10.0.0.1/30 dev tap0; "
_ROOM += "ip link set tap0 up; echo; exec sleep 120"


@pytest.fixture
def room() -> Iterator[Path]:
    """A network namespace with a tap in it, as a machine's is."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-ec", _ROOM], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"\n"
    try:
        yield Path(f"/proc/{holder.pid}/ns/net")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def inside(room: Path, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in a thread of its own, in that network namespace."""
    found: list[T] = []

    def run() -> None:
        with room.open("rb") as file:
            assert ctypes.CDLL(None).setns(file.fileno(), 0) == 0
        found.append(asyncio.run(work()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@dataclass
class Machine:
    """A jail that is furnished, and the token that its guest knows."""

    jail: Jail
    token: str

    def put(self, inside: str, content: bytes | Path) -> None:
        path = self.jail.outside(inside)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_bytes(content)
        os.chown(path, UID, UID)

    def argv(self, programs: Programs, room: Path) -> list[str]:
        return Jailer(self.jail, UID, UID, netns=str(room), cgroup_version=1).argv(programs.jailer)

    def client(self) -> Firecracker:
        return Firecracker(self.jail.outside("/run/firecracker.socket"), uid=UID)

    async def ask(self, room: Path, work: Callable[[GuestLink], Coroutine[Any, Any, T]]) -> T:
        """Ask the guest, once it answers."""

        async def asked() -> T:
            async with asyncio.timeout(30), GuestLink(f"http://10.0.0.2:{PORT}", self.token) as link:
                while True:
                    try:
                        await link.health()
                        return await work(link)
                    except SquibError:
                        await asyncio.sleep(0.01)  # it boots

        return await asyncio.to_thread(inside, room, asked)


def furnished(programs: Programs, base: Path, name: str, token: str) -> Machine:
    base.mkdir(mode=0o755, exist_ok=True)
    machine = Machine(Jail(base, programs.firecracker, name), token)
    (machine.jail.root / "run").mkdir(parents=True)
    for file, size in ((KERNEL, 1), (ROOT, 4096), (OVERLAY, 16 * 2**20)):
        machine.put(file, b"")
        os.truncate(machine.jail.outside(file), size)
    return machine


async def boot(client: Firecracker) -> None:
    await client.put_machine(models.MachineConfiguration(1, 128))
    await client.put_boot(models.BootSource(KERNEL, "reboot=k panic=1", INITRD))
    await client.put_drive(models.Drive("root", True, ROOT, is_read_only=True))
    await client.put_drive(models.Drive("overlay", False, OVERLAY, is_read_only=False))
    await client.put_network(models.NetworkInterface("eth0", "tap0", "02:73:71:75:69:62"))
    await client.start()


def states(machine: Machine) -> set[str]:
    """The kernel's letters for what the machine's processes do."""
    pids = [pid for pid in processes.of_uid(UID) if pid != int(machine.jail.pid_file.read_text())]
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}


@pytest.mark.needs("root", "unshare", "ip", "bwrap")
async def test_a_guest_boots_is_frozen_and_goes_on_elsewhere(
    programs: Programs, shared_tmp: Path, room: Path
) -> None:
    bundle.build(shared_tmp / "guest.pyz")
    token, base = secrets.token_hex(16), shared_tmp / "jails"
    one = furnished(programs, base, "mch-1", token)
    config = GuestConfig("mch-1", token_digest(token), f"tcp:10.0.0.2:{PORT}")
    files = {"squib/guest.json": codec.dumps(config), "squib/guest.pyz": (shared_tmp / "guest.pyz").read_bytes()}
    one.put(INITRD, cpio.archive([cpio.file(*file) for file in files.items()]))

    async with started(one.argv(programs, room)) as vmm, one.client() as client:
        await client.listening(vmm.pid)
        await boot(client)
        await one.ask(room, lambda link: link.write("kept.txt", b"work"))
        seen = await one.ask(room, lambda link: link.terminal(TerminalRequest("id -u; hostname; cat /proc/1/comm")))
        assert seen.stdout.split("\n")[:2] == ["1000", "squib"]
        await client.pause()
        assert states(one) == {"T"}
        await client.resume()
        assert (await one.ask(room, lambda link: link.read("kept.txt"))) == b"work"
        await client.pause()
        await client.create_snapshot(models.SnapshotCreateParams(STATE, MEMORY))
        two = furnished(programs, base, "mch-2", token)
        for file in (OVERLAY, STATE, MEMORY):
            two.put(file, one.jail.outside(file))
        await client.resume()
        await client.act(models.Action.SEND_CTRL_ALT_DEL)
        assert await vmm.wait() == 0
    assert processes.of_uid(UID) == []

    async with started(two.argv(programs, room)) as vmm, two.client() as client:
        await client.listening(vmm.pid)
        await client.load(models.SnapshotLoadParams(STATE, models.MemoryBackend(MEMORY)))
        assert states(two) == set()  # paused: nothing runs
        await client.resume()
        health = await two.ask(room, lambda link: link.health())
        assert health.sandbox_id == "mch-1"  # until it is told another
        assert (await two.ask(room, lambda link: link.read("kept.txt"))) == b"work"
        new = secrets.token_hex(16)
        body = Resume("mch-2", token_digest(new), "other", secrets.token_hex(16), "A" * 44, 1.8e9)
        await two.ask(room, lambda link: link.resume(body))
        two.token = new
        assert (await two.ask(room, lambda link: link.health())).sandbox_id == "mch-2"
        vmm.kill()
        await vmm.wait()
    async with asyncio.timeout(10):
        for pid in processes.of_uid(UID):
            await processes.ended(pid)
