import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.client.sse import MAX_FRAME_BYTES, Decoder, Frame, FrameTooLarge

STREAM = (
    b': hello\n\nid: 1\nevent: a\ndata: {"x":1}\n\n'
    b"data: one\r\ndata:two\r\n\r\nid: 3\n\nretry: 5\nevent: b\ndata:\n\n"
)
FRAMES = [Frame("1", "a", b'{"x":1}'), Frame("1", "message", b"one\ntwo"), Frame("3", "b", b"")]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_frames_are_the_same_however_the_bytes_arrive(cuts):
    decoder = Decoder()
    assert [frame for piece in pieces(STREAM, cuts) for frame in decoder.feed(piece)] == FRAMES


def test_what_the_end_cuts_off_is_no_frame():
    decoder = Decoder()
    assert list(decoder.feed(b"id: 1\ndata: whole\n\nid: 2\ndata: ha")) == [Frame("1", "message", b"whole")]


@pytest.mark.parametrize("line", [b"data: " + b"x" * MAX_FRAME_BYTES, b"data: xxxxxxx\n" * (MAX_FRAME_BYTES // 12)])
def test_a_frame_without_end_is_refused(line):
    decoder = Decoder()
    with pytest.raises(FrameTooLarge):
        for start in range(0, len(line), 65_536):
            list(decoder.feed(line[start : start + 65_536]))
