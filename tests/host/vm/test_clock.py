from squib.host.vm import clock


async def test_two_looks_at_the_counter_agree() -> None:
    one, two = await clock.khz(), await clock.khz()
    assert one > 100_000
    assert abs(one - two) < one / 1000
