"""What another account of the host's can read of a machine, running or on disk: its paths are known from `ps`."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.sandbox import SandboxSpec
from tests.conformance.escape.arena import PYTHON, Arena

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.needs("root", "setpriv")]
STRANGER = 65_533
READ = """
import json, os, sys
readable = []
for path in json.load(sys.stdin):
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        continue
    readable.append(path)
print(json.dumps(readable))
"""
#: Names that nobody can guess are as good as closed.
_SECRET = re.compile(r"/[0-9a-f]{32}(/|$)")
#: Work, memory, records, and what the guest says; the first layer of a drive is the image's.
_CLOSED = re.compile(
    r"/(machine\.json|console\.log|guest|state|workspace|home|frozen|run|memory|drive(-[1-9]\d*)?)(/|$)"
)


async def _readable(directory: str) -> list[str]:
    """What lies below, relative to it, that a stranger can read who knows all names but secret ones."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names]  # noqa: PTH118
    known = [path for path in found if not _SECRET.search(path) and Path(path).is_file()]
    assert known
    reader = await asyncio.create_subprocess_exec(
        *("setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups", "--", PYTHON, "-c", READ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd="/",
    )
    said, _ = await reader.communicate(json.dumps(known).encode())
    return [path.removeprefix(directory) for path in json.loads(said)]


async def test_a_stranger_reads_no_work_no_record_and_no_memory(attacked: Arena) -> None:
    machine = await attacked.host.claim(SandboxSpec(ids.new_id("sbx"), ids.new_id("task")))
    assert machine.sandbox_id is not None
    await attacked.run("echo private > file; chmod 644 file; cp file /tmp/; cp file ~/", machine)
    assert [path for path in await _readable(machine.directory) if _CLOSED.match(path)] == []
    if attacked.host.capability.pause:
        assert await attacked.host.suspend(machine.sandbox_id)
        assert [path for path in await _readable(machine.directory) if _CLOSED.match(path)] == []
    await attacked.host.delete(machine.sandbox_id)
