"""What the suites over drivers share."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from squib.gateway import Route
from squib.host.drivers import registry
from tests.conformance.drivers.bench import Bench
from tests.conformance.escape.arena import SECRET, Arena, arena, made_ready
from tests.conformance.escape.attempts.runner import everything
from tests.conformance.escape.upstream import serving
from tests.needs import OF_DRIVER


@pytest.fixture(scope="session")
def benches() -> Iterator[Callable[[str], Bench]]:
    """The bench of a driver: made when it is first asked for."""
    made: dict[str, Bench] = {}
    yield lambda name: made[name] if name in made else made.setdefault(name, Bench(name))
    for bench in made.values():
        bench.close()


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=pytest.mark.needs(*OF_DRIVER.get(name, ())))
        for name in registry.DRIVERS
        if name != "process"
    ],
)
def isolating(request: pytest.FixtureRequest) -> str:
    """The name of a driver that claims isolation: all but the one that is there to have none."""
    return str(request.param)


@pytest.fixture(scope="session")
def isolating_bench(benches: Callable[[str], Bench], isolating: str) -> Bench:
    return made_ready(benches(isolating))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def attacked(isolating: str, isolating_bench: Bench) -> AsyncIterator[Arena]:
    """Two machines of the driver, the first of them in an attacker's hand, with one way out: the route `model`."""
    folder = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        with serving() as upstream:
            routes = {"model": Route(f"{upstream.url}/base", {"x-api-key": SECRET})}
            async with arena(folder, isolating, isolating_bench, routes) as made:
                made.upstream = upstream
                yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def outcomes(attacked: Arena) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """What became of all attempts, made one after the other in one machine."""
    yield await attacked.attack(everything())
