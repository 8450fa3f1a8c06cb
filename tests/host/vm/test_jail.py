import asyncio
import os
from pathlib import Path

import pytest

from squib.contracts.errors import InfrastructureError
from squib.host.vm import jail

LOOK = "import os; print(sorted(os.listdir('/')), os.path.exists('/etc'), os.listdir('/dev'), os.getuid())"


@pytest.mark.needs("root")
async def test_it_shows_programs_and_nothing_else_and_is_gone_afterwards(shared_tmp: Path) -> None:
    device = Path("/dev/zero")
    os.umask(0o077)
    entered = jail.enter(shared_tmp / jail.NAME, "/usr/bin/python3", [device])
    as_user = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--")
    argv = (*entered, *as_user, "/usr/bin/python3", "-I", "-S", "-c", LOOK)
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    top, rest = said.decode().strip().split("] ", 1)
    names = {name.strip(" '[") for name in top.split(",")}
    assert {"usr", "proc", "dev"} <= names
    assert not names & {"etc", "root", "home", "var", "tmp", "run"}
    assert rest == "False ['zero'] 54321"
    assert str(shared_tmp) not in Path("/proc/self/mountinfo").read_text()
    assert list((shared_tmp / jail.NAME / "usr").iterdir()) == []
    assert (shared_tmp / jail.NAME / "dev" / "zero").is_file(), "a mount point, and no device"


def test_a_program_that_it_would_not_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="not below /usr"):
        jail.enter(tmp_path / jail.NAME, "/opt/qemu/bin/qemu")
