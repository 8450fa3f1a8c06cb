from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from squib.scheduler.repository.git import Git
from tests.scheduler.gitserver import GitServer, serve
from tests.scheduler.stack import Stack, stack


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    with serve(tmp_path / "served", tmp_path) as server:
        yield server


@pytest.fixture
def hardened(git_server: GitServer) -> Git:
    return Git(ca_info=git_server.ca, seconds=30)


@pytest.fixture
async def squib(shared_tmp: Path) -> AsyncIterator[Stack]:
    async with stack(shared_tmp) as whole:
        whole.start()
        yield whole
