"""The network of a machine of every driver that isolates: the gateway's relay answers in it, nothing else does."""

import json
import socket
from typing import Any

import psutil
import pytest

from tests.conformance.escape.arena import PYTHON, Arena
from tests.conformance.escape.attempts import neighbours, sockets
from tests.conformance.escape.attempts.base import Attempt

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: What a connection to each of the addresses and ports does: only those that accept are told.
SCAN = """
import json, selectors, socket, sys
order = json.load(sys.stdin)
open_ = []
for address in order["addresses"]:
    waiting = selectors.DefaultSelector()
    left = list(order["ports"])
    while left or waiting.get_map():
        while left and len(waiting.get_map()) < 200:
            one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            one.setblocking(False)
            port = left.pop()
            try:
                one.connect((address, port))
            except BlockingIOError:
                waiting.register(one, selectors.EVENT_WRITE, port)
            except OSError:
                one.close()
            else:
                open_.append([address, port])
        ready = waiting.select(1.0) if waiting.get_map() else []
        for key, _ in ready:
            if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                open_.append([address, key.data])
            waiting.unregister(key.fileobj)
            key.fileobj.close()
        if not ready:  # silence is no answer
            for key in list(waiting.get_map().values()):
                waiting.unregister(key.fileobj)
                key.fileobj.close()
print(json.dumps(open_))
"""
#: Interfaces, and where packets would be sent that go beyond them.
SEEN = r"""
import json, socket
def lines(name):
    try:
        return [line.split() for line in open(f"/proc/net/{name}").read().splitlines()]
    except OSError:
        return []
print(json.dumps({
    "interfaces": [name for _, name in socket.if_nameindex()],
    "gateways": [l for l in lines("route")[1:] if l[2] != "00000000"],
    "defaults": [l for l in lines("route")[1:] if l[1] == "00000000"],
    "beyond": [l for l in lines("ipv6_route") if l[9] != "lo" and not l[0].startswith(("fe80", "ff"))],
}))
"""
#: Those of the escape list that are about the network, by their names there.
CLOSED = [
    attempt.id
    for module in (sockets, neighbours)
    for attempt in vars(module).values()
    if isinstance(attempt, Attempt)
]


async def test_the_gateways_relay_answers(attacked: Arena) -> None:
    program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8990/model/hello', timeout=10).read())"
    assert (await attacked.python(program)).stdout == "b'pong'\n"
    assert attacked.upstream.asked[-1][1] == "/base/hello"


async def test_there_is_no_route_out(attacked: Arena) -> None:
    result = await attacked.python(SEEN)
    facts = json.loads(result.stdout or result.stderr)
    assert (facts["gateways"], facts["defaults"], facts["beyond"]) == ([], [], [])
    assert len(facts["interfaces"]) <= 2, "loopback, and a machine with a kernel of its own may have a cable"


async def test_no_port_but_the_relays_is_open(attacked: Arena) -> None:
    """All that really listens on the host now, and what often does, at its addresses and at those near a machine."""
    listening = {c.laddr.port for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    ports = sorted(listening | {22, 25, 53, 80, 111, 443, 2375, 3306, 5432, 6379, 8080, 8990, 9090, 10250, 27017})
    near = ["10.0.0.1", "10.0.0.2", "10.0.2.2", "172.17.0.1", "192.168.0.1", "169.254.169.254", "fe80::1%eth0"]
    addresses = sorted({*attacked.baits.addresses, *near})
    scanned = await attacked.run([PYTHON, "-c", SCAN], stdin=json.dumps({"addresses": addresses, "ports": ports}))
    found = json.loads(scanned.stdout or scanned.stderr)
    relay = [[address, 8990] for address in ("127.0.0.1", "10.0.0.1")]
    assert [hit for hit in found if hit not in relay and hit[0] not in _own(attacked)] == []
    assert ["127.0.0.1", 8990] in found, "the scan finds what is there"


def _own(attacked: Arena) -> tuple[str, ...]:
    """Where a machine with a cable has the guest's own API, which asks for a token."""
    return ("10.0.0.2",) if attacked.host.capability.own_kernel else ()


@pytest.mark.parametrize("attempt", CLOSED)
async def test_all_else_is_closed(outcomes: dict[str, dict[str, Any]], attempt: str) -> None:
    """Metadata, names, datagrams, raw packets, echo requests, multicast, netlink, neighbours, the host's sockets."""
    assert outcomes[attempt]["outcome"] == "held", outcomes[attempt]


async def test_the_hosts_own_network_is_as_it_was(attacked: Arena) -> None:
    """No tap, bridge or address of a machine's is among the host's: it has a place of its own, if it has any."""
    names = [name for _, name in socket.if_nameindex()]
    assert not [name for name in names if "squib" in name or name.startswith(("tap", "sq"))]
