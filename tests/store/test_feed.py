"""The ring of one task: bounded, unbroken, and silent about what it does not hold."""

from hypothesis import given
from hypothesis import strategies as st

from squib.store.encode import Row
from squib.store.feed import MAX_BYTES, MAX_EVENTS, Block, Feed

ROW = Row("agent.log", '{"type":"agent.log","time":1.0,"source":"agent","data":{}}')


def block(first: int, n: int, row: Row = ROW) -> Block:
    return Block("task-1", first, [row] * n)


def held(feed: Feed, cursor: int) -> list[int]:
    """The numbers that the feed gives behind the cursor."""
    numbers: list[int] = []
    while (frames := feed.take(numbers[-1] if numbers else cursor)) is not None and frames.data:
        numbers += [int(f.split(b"\n")[0].removeprefix(b"id: ")) for f in frames.data.split(b"\n\n")[:-1]]
        assert frames.last == numbers[-1]
    return numbers


def test_a_reader_amid_a_block_gets_the_rest_of_it() -> None:
    feed = Feed()
    feed.publish(block(5, 4))
    feed.publish(block(9, 2))
    assert held(feed, 4) == [5, 6, 7, 8, 9, 10] and held(feed, 6) == [7, 8, 9, 10] and held(feed, 10) == []
    assert feed.take(3) is None and feed.begins_behind(3) and not feed.begins_behind(4)


def test_it_is_bounded_in_events_and_bytes() -> None:
    feed = Feed()
    for n in range(100):
        feed.publish(block(1 + n * 100, 100))
    assert len(held(feed, 10_000 - MAX_EVENTS)) == MAX_EVENTS and feed.take(10_000 - MAX_EVENTS - 1) is None
    big = Row("agent.log", '{"data":"' + "x" * 100_000 + '"}')
    for n in range(100):
        feed.publish(block(10_001 + n, 1, big))
    assert sum(len(b.data) for b in feed._blocks) <= MAX_BYTES and held(feed, 10_099) == [10_100]


def test_a_large_block_is_given_in_pieces() -> None:
    feed = Feed()
    feed.publish(Block("task-1", 1, [Row("agent.log", '{"data":"' + "x" * 100_000 + '"}')] * 15))
    frames = feed.take(0)
    assert frames is not None and frames.last == 3
    assert held(feed, 0) == list(range(1, 16))


def test_the_last_event_is_known_as_such() -> None:
    feed = Feed()
    feed.publish(block(1, 1))
    feed.publish(Block("task-1", 2, [ROW, Row("task.failed", "{}")]))
    frames = feed.take(1)
    assert frames is not None and frames.terminal and frames.last == 3
    beyond = feed.take(7)
    assert beyond is not None and beyond.terminal and not beyond.data


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), max_size=12), st.integers(0, 50))
def test_whatever_is_published_it_gives_an_unbroken_run_or_nothing(
    blocks: list[tuple[int, int]], cursor: int
) -> None:
    feed = Feed()
    for first, n in blocks:
        feed.publish(block(first, n))
    numbers = held(feed, cursor)
    assert numbers == list(range(cursor + 1, cursor + 1 + len(numbers)))
