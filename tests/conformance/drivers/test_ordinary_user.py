"""The same by an ordinary user, without control groups and without user ids to give away."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import h11
import pytest
import structlog
import wsproto

import squib
from tests import leaks
from tests.conformance.drivers.bench import show_images
from tests.needs import OF_DRIVER

UID = 54_321
PROGRAM = """
import asyncio, json, os, sys
from pathlib import Path
from squib.contracts import ids
from squib.contracts.guest import TerminalRequest
from squib.contracts.sandbox import SandboxSpec
from squib.contracts.task import SandboxRequest
from squib.host import Host, HostConfig
from squib.link import GuestLink, guest_token

KEY = b"k" * 32
FORKS = '''
import os, time
born = 0
try:
    while born < 4000:
        if os.fork() == 0:
            time.sleep(60)
        born += 1
except OSError as error:
    print(born, error.errno)
'''

class Gate:
    async def open(self, machine_id, socket, uid): pass
    async def close(self, machine_id): pass

async def main():
    facts = {}
    async with Host(HostConfig(Path(sys.argv[1]), KEY, driver=sys.argv[2], pool_size=0), Gate()) as host:
        facts["limits"] = host.capability.limits
        machine = await host.claim(SandboxSpec(ids.new_id("sbx"), "task-x", SandboxRequest()))
        facts.update(uid=machine.uid, cgroups=machine.cgroups, id=machine.id)
        async def run(*command):
            async with GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=os.getuid()) as link:
                return (await link.terminal(TerminalRequest(list(command)))).stdout.strip()
        facts["inside"] = await run("id", "-u")
        facts["status"] = await run("sh", "-c", "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status")
        facts["shadow"] = await run("sh", "-c", "cat /etc/passwd | wc -l; ls /home")
        await run("sh", "-c", "mkdir -p closed/deep && touch closed/deep/file && chmod 0 closed/deep closed")
        if host.capability.pause:
            await run("sh", "-c", "echo memory > /tmp/file")
            facts["suspended"] = await host.suspend(machine.sandbox_id)
            machine = await host.resume(machine.sandbox_id)
            facts["again"] = await run("sh", "-c", "cat /tmp/file; ls")
        await run("sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 &")
        if sys.argv[2] == "bubblewrap":
            facts["forks"] = await run("/usr/bin/python3", "-c", FORKS)
        facts["outside"] = os.stat(f"/proc/{machine.pid}").st_uid
    print(json.dumps(facts))

asyncio.run(main())
"""


@pytest.fixture
def library(shared_tmp: Path) -> Path:
    """What the host needs, where an ordinary user can read it: the tests' own environment may be root's alone."""
    target = shared_tmp / "library"
    for module in (squib, h11, wsproto, structlog):
        source = Path(str(module.__file__)).parent
        shutil.copytree(source, target / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in Path(str(h11.__file__)).parent.parent.glob("pyseccomp*.py"):
        shutil.copy(path, target)
    return target


@pytest.mark.needs("root", "setpriv")
@pytest.mark.parametrize(
    "driver",
    [
        pytest.param("gvisor", marks=pytest.mark.needs("runsc", "libseccomp")),
        pytest.param("bubblewrap", marks=pytest.mark.needs("bwrap", "libseccomp")),
        "process",
    ],
)
async def test_an_ordinary_user_has_machines_too(driver: str, library: Path, shared_tmp: Path) -> None:
    state = shared_tmp / "state"
    state.mkdir()
    os.chown(state, UID, UID)
    host = await asyncio.create_subprocess_exec(
        *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"),
        *("/usr/bin/python3", "-c", PROGRAM, str(state), driver),
        env={"PYTHONPATH": str(library), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await host.communicate()
    assert host.returncode == 0
    facts = json.loads(said.splitlines()[-1])
    assert (facts["uid"], facts["cgroups"]) == (None, [])
    assert facts["outside"] == UID
    assert not [limit for limit in facts["limits"] if "cgroup" in limit]
    if driver != "process":
        assert facts["inside"] == "1000"
        assert facts["shadow"].split() == ["2", "agent"]
    if driver == "gvisor":
        assert facts["status"].split() == ["CapEff:", "0" * 16, "Seccomp:", "2"]
        assert (facts["suspended"], facts["again"].split()) == (True, ["memory", "closed"])
    if driver == "bubblewrap":
        assert facts["status"].split() == ["CapEff:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]
        born, error = map(int, facts["forks"].split())
        assert born < 2048
        assert error == 11  # EAGAIN
    assert await leaks.gone(facts["id"], str(state)) == []
    assert list((state / "machines").iterdir()) == []


PROBE = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from squib.host import HostConfig, probes
from squib.host.drivers import registry

async def main():
    ground = await probes.ground(HostConfig(Path(sys.argv[1]), b"k" * 32, driver=sys.argv[2]), probing=True)
    print(json.dumps(dataclasses.asdict(await registry.make(sys.argv[2], ground).probe())))

asyncio.run(main())
"""


@pytest.mark.needs("root", "setpriv")
@pytest.mark.parametrize(
    "driver", [pytest.param(n, marks=pytest.mark.needs(*OF_DRIVER.get(n, ()))) for n in ("container", "qemu")]
)
async def test_what_an_ordinary_user_lacks_is_said(driver: str, library: Path, shared_tmp: Path) -> None:
    """Such a user may need ids of its own, or the right to a device: who reads the answer knows what to do."""
    state = shared_tmp / "state"
    state.mkdir()
    show_images(state)
    os.chown(state, UID, UID)
    probe = await asyncio.create_subprocess_exec(
        *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"),
        *("/usr/bin/python3", "-c", PROBE, str(state), driver),
        env={"PYTHONPATH": str(library), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(state)},
        cwd="/",
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await probe.communicate()
    found = json.loads(said.splitlines()[-1])
    assert found["works"] or (found["why_not"] and found["advice"])
    assert leaks.find(str(state)) == []
    assert list((state / "machines").iterdir()) == []
