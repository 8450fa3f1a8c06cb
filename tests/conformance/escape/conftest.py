"""An arena of each driver for a whole module."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from squib.host.drivers import registry
from tests.conformance.drivers.bench import Bench
from tests.conformance.escape.arena import Arena, arena, made_ready
from tests.needs import OF_DRIVER


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ())))
        for name in registry.DRIVERS
        if name != "process"
    ],
)
def driver_name(request: pytest.FixtureRequest) -> str:
    """Those that claim isolation: all but the one that is there to have none."""
    return str(request.param)


@pytest.fixture(scope="module")
def wide_tmp(driver_name: str) -> Iterator[Path]:
    """As `shared_tmp`, for all of a module's tests of one driver."""
    path = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def bench(benches: Callable[[str], Bench], driver_name: str) -> Bench:
    return made_ready(benches(driver_name))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(driver_name: str, bench: Bench, wide_tmp: Path) -> AsyncIterator[Arena]:
    """Two machines of the driver, the first of them in an attacker's hand."""
    async with arena(wide_tmp, driver_name, bench) as made:
        yield made
