from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from squib.host.firecracker.client import Firecracker
from tests.testing.vmm import Files, Recorded, files, running


@pytest.fixture
async def vmm(shared_tmp: Path) -> AsyncIterator[Recorded]:
    async with running(shared_tmp / "vmm") as vmm:
        yield vmm


@pytest.fixture
def client(vmm: Recorded) -> Iterator[Firecracker]:
    client = Firecracker(vmm.socket)
    yield client
    client.close()


@pytest.fixture
def parts(shared_tmp: Path) -> Files:
    return files(shared_tmp)
