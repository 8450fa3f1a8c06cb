"""Wake-ups: none is missed that comes after the subscription, and nobody's topic stays behind."""

import asyncio

from squib.store.signals import Signals


async def test_a_wake_up_before_the_wait_is_seen() -> None:
    signals = Signals()
    signals.wake("a")
    async with signals.subscribe("a") as first, signals.subscribe("a") as second:
        assert not await first.wait(0)
        signals.wake("a")
        signals.wake("b")
        assert await first.wait(0) and not await first.wait(0)
        assert await second.wait(0)
    assert signals._topics == {}


async def test_all_that_wait_are_woken_together() -> None:
    signals = Signals()
    async with signals.subscribe("a") as a, signals.subscribe("a") as b, signals.subscribe("c") as c:
        waits = [asyncio.create_task(s.wait(30)) for s in (a, b, c)]
        await asyncio.sleep(0)
        signals.wake_all()
        assert await asyncio.gather(*waits) == [True, True, True]


async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    signals = Signals()
    async with signals.subscribe("a") as subscription:
        wait = asyncio.create_task(subscription.wait(30))
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
        assert not subscription.topic.waiters
