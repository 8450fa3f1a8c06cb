import asyncio

from squib.host.keyed import KeyedLocks


async def test_one_key_admits_one_at_a_time_also_when_users_come_and_go() -> None:
    locks, inside, most = KeyedLocks(), 0, 0

    async def use() -> None:
        nonlocal inside, most
        async with locks.hold("a"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    for _ in range(3):
        await asyncio.gather(*(use() for _ in range(5)))
    assert most == 1


async def test_different_keys_do_not_wait_for_each_other() -> None:
    locks = KeyedLocks()
    async with locks.hold("a"), asyncio.timeout(5), locks.hold("b"):
        pass


async def test_a_cancelled_waiter_leaves_the_lock_usable() -> None:
    locks = KeyedLocks()
    async with locks.hold("a"):
        waiter = asyncio.create_task(locks.hold("a").__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    async with asyncio.timeout(5), locks.hold("a"):
        pass
