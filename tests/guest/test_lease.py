"""The lease counts what the guest lives through, not what the clock says."""

from collections.abc import Iterator

import pytest

from squib.guest import lease
from squib.guest.lease import Lease


class Life:
    """A lease whose ticks come when the test says so."""

    def __init__(self, seconds: float) -> None:
        self.over = 0
        self.lease = Lease(seconds, self._end)

    def _end(self) -> None:
        self.over += 1

    def ticks(self, count: int) -> int:
        """So many ticks pass; gives how often the lease has been over."""
        for _ in range(count):
            if not self.over:
                self.lease._pass()
        return self.over


@pytest.fixture
async def life() -> Iterator[Life]:
    made = Life(80.0)
    with made.lease:
        yield made


async def test_it_is_over_once_when_nobody_asks(life: Life) -> None:
    assert life.ticks(lease._TICKS - 1) == 0
    assert life.ticks(5) == 1


async def test_asking_begins_it_anew(life: Life) -> None:
    for _ in range(10):
        assert life.ticks(lease._TICKS - 1) == 0
        life.lease.renew()


async def test_it_is_longer_for_a_while_and_new_after_that(life: Life) -> None:
    life.ticks(lease._TICKS - 1)
    with life.lease.extended(800.0):
        assert life.ticks(10 * lease._TICKS - 1) == 0
    assert life.ticks(lease._TICKS - 1) == 0
    assert life.ticks(1) == 1


async def test_a_while_is_never_shorter_than_the_lease(life: Life) -> None:
    with life.lease.extended(1.0):
        assert life.ticks(lease._TICKS - 1) == 0
        assert life.ticks(1) == 1


async def test_without_a_lease_nothing_ends() -> None:
    life = Life(0.0)
    with life.lease, life.lease.extended(1.0):
        assert life.lease._timer is None
