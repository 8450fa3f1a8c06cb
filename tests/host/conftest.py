"""Hosts with real guests; by the driver `process` where isolation is not the point, since it starts fastest."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.sandbox import SandboxSpec
from squib.contracts.task import SandboxRequest
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.host.bases import Base
from squib.host.making import Order

KEY = b"k" * 32


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway({}) as made:
        yield made


@pytest.fixture
def config(shared_tmp: Path) -> HostConfig:
    return HostConfig(shared_tmp, KEY, driver="process", pool_size=0)


def ordered(host: Host, **request: float | int | str) -> Order:
    """What a task of that measure gets from the host's own driver, and no image."""
    driver, capability = host._fleet.drivers.usual
    return Order(driver, capability, Base(), SandboxRequest(**request))  # type: ignore[arg-type]


def sandbox(**request: float | int | str) -> SandboxSpec:
    return SandboxSpec(ids.new_id("sbx"), ids.new_id("task"), SandboxRequest(**request))  # type: ignore[arg-type]
