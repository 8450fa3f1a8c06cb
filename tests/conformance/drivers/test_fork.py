"""Copies of a sandbox: the same work at first, apart from then on, strangers to each other, the first undisturbed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.errors import DriverUnavailable, HostFull, SandboxLost
from squib.contracts.sandbox import SandboxSpec
from squib.gateway import Gateway
from squib.host import Host, HostConfig, ready
from squib.host.snapshots import Stored
from tests import leaks
from tests.conformance.drivers.bench import Bench
from tests.conformance.drivers.conftest import KEY, Run

#: Work that is hard to copy: links out of it, a file that nobody may read (left out), one with holes, odd names.
WORK = r"""
set -e
mkdir -p deep/er && echo text > deep/er/file && ln -s /etc/passwd out && ln -s deep/er/file in
ln deep/er/file hard && printf x > run && chmod 750 run && printf y > "$(printf 'odd \n name')"
truncate -s 64M holes && printf end >> holes && mkfifo pipe && touch closed && chmod 0 closed
echo memory > /tmp/file
"""
LOOK = r"""
cat in hard /tmp/file; readlink out; stat -c %a run; ls -1 | grep -cv closed; stat -c %s holes
test -p pipe && echo pipe
test "$(stat -c %i hard)" = "$(stat -c %i deep/er/file)" && echo one; hostname
"""
SEEN = "text\ntext\nmemory\n/etc/passwd\n750\n9\n67108867\npipe\none\n"


@pytest.fixture
async def host(bench: Bench, snapshot: Stored) -> AsyncIterator[Host]:
    if not bench.capability.fork:
        pytest.skip("its machines can't be copied")
    async with Gateway({}) as gateway, Host(replace(bench.config, max_machines=5), gateway) as opened:
        await opened._shelf.looked.wait()
        yield opened


def _sandbox() -> SandboxSpec:
    return SandboxSpec(ids.new_id("sbx"), ids.new_id("task"))


async def test_copies_have_the_work_and_go_their_own_ways(host: Host, run: Run) -> None:
    first, specs = _sandbox(), [_sandbox() for _ in range(3)]
    original = await host.claim(first)
    assert (await run(original, WORK)).exit_code == 0
    copies = await host.fork(first.id, specs)
    assert [(copy.sandbox_id, copy.task_id) for copy in copies] == [(spec.id, spec.task_id) for spec in specs]
    assert await host.fork(first.id, specs) == copies, "asking twice makes them once"
    assert await host.get(first.id) == original

    everyone = [original, *copies]
    said = [(await run(machine, LOOK)).stdout for machine in everyone]
    assert [text[: len(SEEN)] for text in said] == [SEEN] * 4
    assert len({text[len(SEEN) :] for text in said}) == 4, "their names"
    healths = await asyncio.gather(*(ready.health(machine, KEY) for machine in everyone))
    assert [health.sandbox_id for health in healths] == [machine.id for machine in everyone]
    assert len({health.epoch for health in healths}) == 4
    users = [machine.uid for machine in everyone]
    assert len(set(users)) == 4 or users == [None] * 4

    await asyncio.gather(*(run(m, f"echo {m.id} > deep/er/file; echo {m.id} > /tmp/file") for m in everyone))
    for machine in everyone:
        assert (await run(machine, "cat deep/er/file /tmp/file")).stdout == f"{machine.id}\n{machine.id}\n"
    await host.delete(first.id)
    assert (await run(copies[0], "cat deep/er/file")).stdout == f"{copies[0].id}\n", "the first may go"
    await host.delete(specs[0].id)
    assert leaks.find(copies[0].id) == []


async def test_all_of_them_or_none(host: Host, bench: Bench, run: Run) -> None:
    first = _sandbox()
    original = await host.claim(first)
    with pytest.raises(HostFull):
        await host.fork(first.id, [_sandbox() for _ in range(5)])
    with pytest.raises(SandboxLost):
        await host.fork(_sandbox().id, [_sandbox()])
    host._fleet.keep(replace(original, spec=replace(original.spec, disk=1)))
    await run(original, "head -c 3000000 /dev/urandom > big")
    if host._fleet.drivers.own.workspace(original) is not None:
        with pytest.raises(Exception, match="more than 1 MiB"):
            await host.fork(first.id, [_sandbox(), _sandbox()])
    assert await host.list() == [await host.get(first.id)]
    assert (await run(original, "echo on")).stdout == "on\n"
    assert [path.name for path in (bench.state / "machines").iterdir()] == [original.id]
    assert [path for path in (bench.state / "snapshots").iterdir() if path.name.startswith(".making")] == []


async def test_a_driver_that_can_not_says_so(bench: Bench, host_config: HostConfig) -> None:
    if bench.capability.fork:
        pytest.skip("its machines can be copied")
    async with Gateway({}) as gateway, Host(host_config, gateway) as host:
        spec = _sandbox()
        machine = await host.claim(spec)
        with pytest.raises(DriverUnavailable, match="can't be copied"):
            await host.fork(spec.id, [_sandbox()])
        assert await host.list() == [machine]
        assert Path(machine.directory).exists()
