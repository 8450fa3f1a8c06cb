import asyncio
import time

import pytest

from squib.contracts.errors import SandboxLost
from squib.scheduler.interrupt import Cancelled, Interrupted, Interrupts, Lost, OutOfTime

_LATE = OutOfTime("task", 1)


async def test_a_block_that_nobody_cuts_short_runs_to_its_end() -> None:
    async with Interrupts().scope(time.time() + 60, _LATE):
        await asyncio.sleep(0)


async def test_a_reason_ends_the_open_block() -> None:
    interrupts = Interrupts()
    asyncio.get_running_loop().call_soon(interrupts.cut, Cancelled())
    with pytest.raises(Interrupted) as caught:
        async with interrupts.scope(time.time() + 60, _LATE):
            await asyncio.Event().wait()
    assert caught.value.reason == Cancelled()


async def test_a_reason_between_two_blocks_ends_the_next_and_is_used_up() -> None:
    interrupts = Interrupts()
    interrupts.cut(_LATE)
    with pytest.raises(Interrupted):
        async with interrupts.scope(time.time() + 60, OutOfTime("turn", 1)):
            pass
    async with interrupts.scope(time.time() + 60, _LATE):
        await asyncio.sleep(0)


async def test_a_deadline_that_has_passed_ends_the_block_at_its_first_pause() -> None:
    with pytest.raises(Interrupted) as caught:
        async with Interrupts().scope(time.time() - 1, _LATE):
            await asyncio.Event().wait()
    assert caught.value.reason is _LATE


async def test_a_cancel_outranks_what_came_before_and_two_cuts_are_one() -> None:
    interrupts = Interrupts()
    lost = Lost(SandboxLost("gone"))

    def both() -> None:
        interrupts.cut(lost)
        interrupts.cut(Cancelled())
        interrupts.cut(lost)

    asyncio.get_running_loop().call_soon(both)
    with pytest.raises(Interrupted) as caught:
        async with interrupts.scope(time.time() + 60, _LATE):
            await asyncio.Event().wait()
    assert caught.value.reason == Cancelled()


async def test_a_timeout_of_the_blocks_own_is_its_own() -> None:
    with pytest.raises(TimeoutError):
        async with Interrupts().scope(time.time() + 60, _LATE), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_cancellation_from_outside_is_none_of_these() -> None:
    async def block() -> None:
        async with Interrupts().scope(time.time() + 60, _LATE):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
