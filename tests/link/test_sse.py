"""The event stream's parser: any split of the bytes gives the same events, and rubbish gives one error."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.contracts import ids
from squib.contracts.errors import GuestUnreachable
from squib.link import sse

EPOCH = ids.new_id("ep")


def frame(n=1, **changes):
    event = {"epoch": EPOCH, "n": n, "type": "agent.log", "time": 1.5, "source": "agent", "data": {"text": "x"}}
    return f"id: {EPOCH}:{n}\ndata: {json.dumps({**event, **changes})}".encode()


def parsed(data: bytes, sizes=()):
    splitter, events = sse.Splitter(), []
    for size in sizes:
        events += sse.guest_events(splitter.feed(data[:size]))
        data = data[size:]
    return events + sse.guest_events(splitter.feed(data))


@given(st.lists(st.text(max_size=30), max_size=8), st.lists(st.integers(0, 60), max_size=40))
def test_any_split_gives_the_same_events(texts, sizes):
    stream = b": hello\n\n".join(frame(n, data={"text": t}) + b"\n\n" for n, t in enumerate(texts, 1))
    events = parsed(stream, sizes)
    assert [e.n for e in events] == list(range(1, len(texts) + 1))
    storable = [t.replace("\x00", "\ufffd") for t in texts]
    assert [e.data["text"] for e in events] == storable


def test_comments_and_an_unfinished_frame_give_nothing():
    assert parsed(b": heartbeat\n\n:\n\nretry: 3\n\n" + frame()) == []


def test_a_frame_that_never_ends_is_refused_in_bounded_memory():
    splitter = sse.Splitter()
    with pytest.raises(GuestUnreachable, match="more than"):
        for _ in range(40):
            splitter.feed(b"x" * 65536)


def test_a_whole_frame_over_the_bound_is_refused():
    big = frame(data={"text": "x" * (sse.MAX_FRAME_BYTES + 1)}) + b"\n\n"
    with pytest.raises(GuestUnreachable):
        sse.guest_events(sse.Splitter().feed(big))


@pytest.mark.parametrize(
    "bad",
    [
        frame(type="task.succeeded"),  # only squib's own side may say so
        frame(type="sandbox.lost"),
        frame(type="x" * 200),
        frame(type=""),
        frame(source="scheduler"),
        frame(source=["agent"]),
        frame(n=0),
        frame(n=True),
        frame(n=2**60),
        frame(n="1"),
        frame(epoch="../../etc"),
        frame(epoch=[]),
        frame(time=-1),
        frame(time="now"),
        frame(time=float("nan")),
        frame(data={"x": float("inf")}),
        frame(data=[1]),
        frame(more=1),
        b"data: []",
        b"data: 7",
        b"data: {]",
        b'data: {"n": 1}',
        b"data: " + b"[" * 100_000,
        b'data: {"n": 1e999}',
    ],
    ids=range(24),
)
def test_rubbish_is_one_error(bad):
    with pytest.raises(GuestUnreachable):
        parsed(bad + b"\n\n")


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_else(data):
    with contextlib.suppress(GuestUnreachable):
        parsed(data + b"\n\ndata: " + data + b"\n\n")


@pytest.mark.parametrize("depth", [100, 600, 5000])
def test_depth_is_one_error_at_most(depth):
    """Also where what is no text for a database has to be looked for at the bottom."""
    nested = "[" * depth + '"\\u0000"' + "]" * depth
    with contextlib.suppress(GuestUnreachable):
        sse.guest_events([frame().replace(b'{"text": "x"}', f'{{"deep": {nested}}}'.encode())])


def test_what_no_database_takes_is_replaced():
    raw = frame(data={"text": "a\ud800b\x00c", "k\x00": ["\udfff"]}) + b"\n\n"
    (event,) = parsed(raw)
    assert event.data == {"text": "a\ufffdb\ufffdc", "k\ufffd": ["\ufffd"]}
    (event,) = parsed(frame(data={"text": "\U0001f600"}) + b"\n\n")
    assert event.data == {"text": "\U0001f600"}


def test_fields_of_a_named_frame():
    assert sse.fields(b'event: stdout\ndata: {"text":\ndata: "x"}') == ("stdout", b'{"text":\n"x"}')
