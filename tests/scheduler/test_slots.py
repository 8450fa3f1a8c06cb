import asyncio

from squib.scheduler.slots import Slots


async def test_a_place_given_back_goes_to_who_waits() -> None:
    slots = Slots(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    looking = asyncio.create_task(slots.wait_free())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not looking.done()
    await slots.release()
    await waiting
    assert not slots.free
    await slots.release()
    await looking
    assert slots.free
