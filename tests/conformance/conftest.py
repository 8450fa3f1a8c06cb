"""What the suites over drivers share."""

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.drivers.bench import Bench


@pytest.fixture(scope="session")
def benches() -> Iterator[Callable[[str], Bench]]:
    """The bench of a driver: made when it is first asked for."""
    made: dict[str, Bench] = {}
    yield lambda name: made[name] if name in made else made.setdefault(name, Bench(name))
    for bench in made.values():
        bench.close()
