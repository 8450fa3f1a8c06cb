"""Attempts with what a sandbox is given to talk by: the gateway and the guest's socket; and on its supervisor."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from squib.contracts import ids
from squib.contracts.errors import GuestUnreachable
from squib.contracts.machine import Machine
from squib.contracts.sandbox import SandboxSpec
from squib.host import processes
from tests.conformance.escape import levers
from tests.conformance.escape.arena import PYTHON, SECRET, Arena

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_gateway_leads_nowhere_but_below_its_routes(attacked: Arena) -> None:
    upstream = attacked.upstream
    upstream.asked.clear()
    port = attacked.baits.port
    requests = levers.payloads("127.0.0.1", port, "model")
    asked = await attacked.run([PYTHON, "-c", levers.SPEAK], stdin=json.dumps(requests))
    answers = json.loads(asked.stdout or asked.stderr)
    assert attacked.baits.asked == [], "the host's own port was reached"
    assert not [name for name, answer in answers.items() if attacked.baits.secret in answer or SECRET in answer]
    through = {name for name, answer in answers.items() if answer.startswith("HTTP/1.1 200")}
    harmless = {"another host", "forwarded", "upgrade", "a request as a body", "a request behind", "bare line ends"}
    assert through == harmless
    assert {path for _, path, _ in upstream.asked} == {
        f"/base/{name}" for name in ("host", "fwd", "up", "body", "plain", "bare")
    }
    for _, path, headers in upstream.asked:
        assert headers["host"] == urlsplit(upstream.url).netloc, path
        assert headers["x-api-key"] == SECRET
        assert "upgrade" not in headers


async def test_connections_that_are_held_do_not_keep_the_host_out(attacked: Arena) -> None:
    guest = attacked.bait.guest
    held = await attacked.python(levers.FLOOD, guest)
    if held.stdout == "0\n":
        pytest.skip("the guest's socket is not to be seen inside")
    assert int(held.stdout) == 700, held
    async with attacked.link(attacked.machine) as link:
        assert (await link.health()).sandbox_id == attacked.machine.id
    assert (await attacked.run("kill -9 $(cat flood.pid)")).exit_code == 0


class Costly:
    """A third machine, which an attack may cost its life: then there is another."""

    def __init__(self, arena: Arena):
        self._arena = arena
        self._machine: Machine | None = None

    async def machine(self) -> Machine:
        """One that answers."""
        if self._machine is None or not await self._arena.host.alive(self._machine):
            await self.away()
            self._machine = await self._arena.host.claim(SandboxSpec(ids.new_id("sbx"), ids.new_id("task")))
        return self._machine

    async def away(self) -> None:
        """Remove it, and see that nothing is left."""
        machine, self._machine = self._machine, None
        if machine is not None and machine.sandbox_id is not None:
            await self._arena.host.delete(machine.sandbox_id)
            assert await self._arena.host.get(machine.sandbox_id) is None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def costly(attacked: Arena) -> AsyncIterator[Costly]:
    made = Costly(attacked)
    yield made
    await made.away()


@pytest.mark.parametrize("attack", ["kill -9 -1", "kill -TERM 1 -1", "kill -STOP 1; kill -9 1"])
async def test_who_ends_everybody_ends_at_most_this_machine(attacked: Arena, costly: Costly, attack: str) -> None:
    """Afterwards the guest answers, or its machine has ended and is seen to have; nobody else has noticed."""
    machine = await costly.machine()
    with suppress(GuestUnreachable):
        await attacked.run(attack, machine)
    try:
        assert (await attacked.run("echo here", machine)).stdout == "here\n"
    except GuestUnreachable:
        async with asyncio.timeout(20):
            await processes.ended(machine.pid or 0)
        assert not await attacked.host.alive(machine)
    assert (await attacked.run("echo here", attacked.neighbour)).stdout == "here\n"


async def test_a_link_in_the_place_of_the_guests_socket_is_not_followed(attacked: Arena, costly: Costly) -> None:
    machine = await costly.machine()
    guest = attacked.bait.guest.replace(attacked.machine.directory, machine.directory)
    swapped = await attacked.python(levers.SWAP, guest, attacked.baits.socket, machine=machine)
    before = list(attacked.baits.asked)
    if swapped.exit_code == 0:
        with pytest.raises(GuestUnreachable):
            async with attacked.link(machine) as link:
                await link.health()
    else:
        assert (await attacked.run("echo here", machine)).stdout == "here\n"
    assert attacked.baits.asked == before
    await costly.away()
