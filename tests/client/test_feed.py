import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.client.errors import BrokenStream, ServerUnreachable
from squib.client.feed import GOOD_SECONDS, Feed
from squib.contracts import codec
from squib.contracts.event import Event


def frame(seq: int, kind: str = "agent.message") -> bytes:
    event = Event("task-1", seq, kind, 1.0, "agent", {"text": "é\n"})
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, kind.encode(), codec.dumps(event))


TOTAL = 12
LOG = [*(frame(seq) for seq in range(1, TOTAL)), frame(TOTAL, "task.succeeded")]


@given(st.integers(0, 2**32))
def test_readers_that_drop_and_resume_see_each_event_once_and_in_order(seed):
    chance, feed, seen, now = random.Random(seed), Feed(), [], 0.0
    while not feed.ended():
        feed.connected(now)
        back = chance.randint(0, min(2, feed.after))  # a server that repeats itself
        answer = b"".join(LOG[feed.after - back :])
        cut = chance.randint(1, len(answer))
        seen += [event.seq for event in feed.feed(answer[:cut])]
        if feed.ended():
            break
        now += GOOD_SECONDS
        feed.lost(now)
    assert seen == list(range(1, TOTAL + 1))


def test_a_hole_is_an_error_and_the_reader_stays_before_it():
    feed = Feed()
    seen = []
    with pytest.raises(BrokenStream):
        seen.extend(event.seq for event in feed.feed(frame(1) + frame(3)))
    assert feed.after == 1


@pytest.mark.parametrize("junk", [b"data: {\n\n", b"data: []\n\n", b'data: {"seq": "1"}\n\n'])
def test_junk_is_a_broken_stream(junk):
    with pytest.raises(BrokenStream):
        list(Feed().feed(junk))


def test_it_gives_up_after_ten_connections_that_brought_nothing():
    feed = Feed()
    for _ in range(9):
        feed.connected(0.0)
        assert feed.lost(0.1) > 0
    feed.connected(0.0)
    with pytest.raises(ServerUnreachable):
        feed.lost(0.1)


def test_a_long_silent_connection_starts_the_count_anew():
    feed = Feed()
    for _ in range(30):
        feed.connected(0.0)
        list(feed.feed(b": heartbeat\n\n"))
        feed.lost(GOOD_SECONDS)
