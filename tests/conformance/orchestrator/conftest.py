"""Each orchestrator over a real host: in this process, and behind its daemon on TCP and on a unix socket."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from squib.host import Host, HostConfig
from squib.orchestrator.base import Orchestrator
from squib.orchestrator.local import LocalOrchestrator
from tests.daemon.conftest import KEY, daemon


@dataclass
class Place:
    """An orchestrator and the host that is behind it."""

    orchestrator: Orchestrator
    host: Host


@pytest.fixture(params=["local", "remote", "remote@unix"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["process", pytest.param("bubblewrap", marks=pytest.mark.needs("bwrap", "libseccomp"))])
def config(request: pytest.FixtureRequest, shared_tmp: Path) -> HostConfig:
    driver = str(request.param)
    return HostConfig(state_dir=shared_tmp / "host", key=KEY, driver=driver, pool_size=0, max_machines=2)


@pytest.fixture
async def place(kind: str, config: HostConfig, shared_tmp: Path) -> AsyncIterator[Place]:
    where = f"unix:{shared_tmp}/host.sock" if kind == "remote@unix" else "127.0.0.1:0"
    async with daemon(config, where) as running:
        local = LocalOrchestrator(running.host)
        yield Place(local if kind == "local" else running.orchestrator, running.host)
