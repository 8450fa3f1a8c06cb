import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.testing.firecracker.install import install
from tests.testing.programs import Programs
from tests.testing.vmm import Files, Line, files, running


@pytest.fixture
async def line(shared_tmp: Path) -> AsyncIterator[Line]:
    async with running(shared_tmp / "vmm") as vmm:
        reader, writer = await asyncio.open_unix_connection(vmm.socket)
        yield Line(reader, writer, vmm)
        writer.close()


@pytest.fixture
def parts(shared_tmp: Path) -> Files:
    return files(shared_tmp)


@pytest.fixture
def programs(shared_tmp: Path) -> Programs:
    place = shared_tmp / "bin"
    place.mkdir(mode=0o755)
    return Programs(*install(place))
