"""Attempts with what a sandbox is given to talk by: the gateway and the guest's socket; and on its supervisor."""

import asyncio
import json
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from squib.contracts import ids
from squib.contracts.errors import GuestUnreachable
from squib.contracts.machine import Machine
from squib.contracts.sandbox import SandboxSpec
from squib.host import processes
from tests.conformance.escape import levers
from tests.conformance.escape.arena import PYTHON, SECRET, Arena

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _another(attacked: Arena) -> Machine:
    """A third machine, which the attack may cost its life."""
    return await attacked.host.claim(SandboxSpec(ids.new_id("sbx"), ids.new_id("task")))


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


async def test_a_link_in_the_place_of_the_guests_socket_is_not_followed(attacked: Arena) -> None:
    machine = await _another(attacked)
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
    await attacked.host.delete(machine.sandbox_id or "")


@pytest.mark.parametrize("attack", ["kill -9 -1", "kill -STOP 1; kill -9 1", "kill -TERM 1 -1"])
async def test_who_ends_everybody_ends_at_most_this_machine(attacked: Arena, attack: str) -> None:
    """Afterwards the guest answers, or its machine has ended and is seen to have; nobody else has noticed."""
    machine = await _another(attacked)
    assert machine.sandbox_id is not None
    with suppress(GuestUnreachable):
        await attacked.run(attack, machine)
    try:
        assert (await attacked.run("echo here", machine)).stdout == "here\n"
    except GuestUnreachable:
        async with asyncio.timeout(20):
            await processes.ended(machine.pid or 0)
        assert not await attacked.host.alive(machine)
    assert (await attacked.run("echo here", attacked.neighbour)).stdout == "here\n"
    await attacked.host.delete(machine.sandbox_id)
    assert await attacked.host.get(machine.sandbox_id) is None
