"""The network of a machine of every driver that isolates: the gateway's relay answers in it, nothing else does."""

import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from squib.gateway import Route
from squib.host.drivers import registry
from tests.conformance.drivers.bench import Bench
from tests.conformance.escape.arena import PYTHON, Arena, arena, made_ready
from tests.conformance.escape.attempts import neighbours, sockets
from tests.conformance.escape.attempts.base import Attempt
from tests.conformance.escape.upstream import Upstream, serving
from tests.needs import OF_DRIVER

pytestmark = pytest.mark.asyncio(loop_scope="module")

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


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ())))
        for name in registry.DRIVERS
        if name != "process"
    ],
)
def driver_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bench(benches: Callable[[str], Bench], driver_name: str) -> Bench:
    return made_ready(benches(driver_name))


@pytest.fixture(scope="module")
def upstream(driver_name: str) -> Iterator[Upstream]:
    with serving() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(driver_name: str, bench: Bench, upstream: Upstream) -> AsyncIterator[Arena]:
    folder = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        async with arena(folder, driver_name, bench, {"model": Route(upstream.url)}) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_the_gateways_relay_answers(place: Arena, upstream: Upstream) -> None:
    program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8990/model/hello', timeout=10).read())"
    assert (await place.python(program)).stdout == "b'pong'\n"
    assert upstream.asked[-1][1] == "/hello"


async def test_there_is_no_route_out(place: Arena) -> None:
    result = await place.python(SEEN)
    facts = json.loads(result.stdout or result.stderr)
    assert (facts["gateways"], facts["defaults"], facts["beyond"]) == ([], [], [])
    assert len(facts["interfaces"]) <= 2, "loopback, and a machine with a kernel of its own may have a cable"


async def test_no_port_but_the_relays_is_open(place: Arena) -> None:
    """All that really listens on the host now, and what often does, at its addresses and at those near a machine."""
    listening = {c.laddr.port for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    ports = sorted(listening | {22, 25, 53, 80, 111, 443, 2375, 3306, 5432, 6379, 8080, 8990, 9090, 10250, 27017})
    near = ["10.0.0.1", "10.0.0.2", "10.0.2.2", "172.17.0.1", "192.168.0.1", "169.254.169.254", "fe80::1%eth0"]
    addresses = sorted({*place.baits.addresses, *near})
    scanned = await place.run([PYTHON, "-c", SCAN], stdin=json.dumps({"addresses": addresses, "ports": ports}))
    found = json.loads(scanned.stdout or scanned.stderr)
    relay = [[address, 8990] for address in ("127.0.0.1", "10.0.0.1")]
    assert [hit for hit in found if hit not in relay and hit[0] not in _own(place)] == []
    assert ["127.0.0.1", 8990] in found, "the scan finds what is there"


def _own(place: Arena) -> tuple[str, ...]:
    """Where a machine with a cable has the guest's own API, which asks for a token."""
    return ("10.0.0.2",) if place.host.capability.own_kernel else ()


async def test_all_else_is_closed(place: Arena) -> None:
    """Metadata, names, datagrams, raw packets, echo requests, multicast, netlink, neighbours, the host's sockets."""
    outcomes = await place.attack(CLOSED)
    assert {name: one for name, one in outcomes.items() if one["outcome"] != "held"} == {}
    assert place.baits.asked == []


async def test_the_hosts_own_network_is_as_it_was(place: Arena) -> None:
    """No tap, bridge or address of a machine's is among the host's: it has a place of its own, if it has any."""
    names = [name for _, name in socket.if_nameindex()]
    assert not [name for name in names if "squib" in name or name.startswith(("tap", "sq"))]
