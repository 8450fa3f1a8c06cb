"""A daemon over a real host, served over TCP or a unix socket as `squib host` does it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from squib.cli.listen import listening_at, serve
from squib.contracts.ids import new_id
from squib.contracts.sandbox import SandboxSpec
from squib.daemon import create_daemon
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.link import host_token
from squib.orchestrator.remote import RemoteOrchestrator

KEY = b"a key for tests, of 32 bytes or so"


def spec(**more: Any) -> SandboxSpec:
    return SandboxSpec(id=new_id("sbx"), task_id=new_id("task"), **more)


@dataclass
class Daemon:
    """A running one, and ways to it."""

    host: Host
    url: str
    orchestrator: RemoteOrchestrator
    http: httpx2.AsyncClient  # with the host's token


@asynccontextmanager
async def daemon(config: HostConfig, place: str = "127.0.0.1:0") -> AsyncIterator[Daemon]:
    async with Gateway({}) as gateway, Host(config, gateway) as host:
        with listening_at(place) as listener:
            serving = asyncio.create_task(serve(create_daemon(host, KEY), listener))
            socket = listener.url.removeprefix("unix:") if listener.url.startswith("unix:") else None
            client = httpx2.AsyncClient(
                base_url="http://host" if socket else listener.url,
                headers={"Authorization": f"Bearer {host_token(KEY)}"},
                transport=httpx2.AsyncHTTPTransport(uds=socket),
                timeout=30,
            )
            async with client, RemoteOrchestrator(listener.url, KEY, patience=2.0) as remote:
                yield Daemon(host, listener.url, remote, client)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
def config(shared_tmp: Path) -> HostConfig:
    return HostConfig(state_dir=shared_tmp / "host", key=KEY, driver="process", pool_size=0)


@pytest.fixture
async def running(config: HostConfig) -> AsyncIterator[Daemon]:
    async with daemon(config) as made:
        yield made
