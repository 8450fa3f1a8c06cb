import asyncio

import pytest

from squib.scheduler import throttle
from squib.scheduler.throttle import Throttle


async def test_only_so_many_have_a_turn_at_once() -> None:
    turns, now, most = Throttle(2), 0, 0

    async def work() -> None:
        nonlocal now, most
        async with turns.turn():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(work() for _ in range(10)))
    assert most == 2


async def test_one_who_has_waited_long_enough_goes_on_and_gives_back_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_MOST_WAIT", 0.0)
    turns = Throttle(1)
    async with turns.turn(), turns.turn():
        pass
    assert turns._free._value == 1


async def test_a_turn_that_lasts_too_long_counts_no_more_and_is_given_back_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttle, "_MOST_HELD", 0.0)
    turns = Throttle(1)
    async with turns.turn(), asyncio.timeout(10), turns.turn():
        pass
    assert turns._free._value == 1


async def test_a_turn_is_given_back_by_one_who_fails() -> None:
    turns = Throttle(1)
    with pytest.raises(KeyError):
        async with turns.turn():
            raise KeyError
    assert not turns._free.locked()
