import asyncio
import os
import socket
from pathlib import Path

import pytest

from squib.host.network import relay, room

pytestmark = pytest.mark.needs("root", "qemu", "nsenter")


async def inside(made: room.Room, *command: str) -> str:
    argv = ("nsenter", f"--net=/proc/self/fd/{made.namespace}", "--", *command)
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, pass_fds=(made.namespace,))
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def test_a_room_has_a_tap_and_the_loopback_one_network_and_no_way_on() -> None:
    async with room.made() as made:
        devices = await inside(made, "cat", "/proc/net/dev")
        assert sorted(line.split(":")[0].strip() for line in devices.splitlines()[2:]) == ["lo", room.TAP]
        routes = [line.split() for line in (await inside(made, "cat", "/proc/net/route")).splitlines()[1:]]
        network = socket.inet_aton("10.0.0.0")[::-1].hex().upper()
        assert [(route[0], route[1], route[2]) for route in routes] == [(room.TAP, network, "00000000")]
        assert (await inside(made, "cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6")).strip() == "1"
        known = (await inside(made, "cat", "/proc/net/arp")).splitlines()[1].split()
        assert (known[0], known[3]) == (relay.GUEST, room.MAC)


async def test_rooms_are_apart_and_this_process_stays_where_it_is() -> None:
    own = Path("/proc/self/ns/net").readlink()
    async with room.made() as one, room.made() as two:
        names = {os.fstat(each.namespace).st_ino for each in (one, two)}
        assert len(names) == 2
        assert f"net:[{Path('/proc/self/ns/net').stat().st_ino}]" == str(own)
        assert Path("/proc/self/ns/net").stat().st_ino not in names
    assert room.TAP not in Path("/proc/net/dev").read_text()
