"""A command's stream as frames gives back the very bytes, however they were cut."""

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from squib.guest.routes.terminal import Stream

_PIECES = st.lists(st.one_of(st.text(max_size=8).map(str.encode), st.binary(max_size=8)), max_size=12)


def _bytes(frames: bytes) -> bytes:
    found = b""
    for frame in frames.decode().split("\n\n")[:-1]:
        first, second = frame.split("\n")
        assert first == "event: stdout"
        data = json.loads(second.removeprefix("data: "))
        assert len(data) == 1
        found += data["text"].encode() if "text" in data else base64.b64decode(data["base64"])
    return found


@given(_PIECES, st.integers(1, 7))
def test_byte_for_byte(pieces: list[bytes], step: int) -> None:
    whole = b"".join(pieces)
    stream = Stream("stdout", 10_000)
    frames = b"".join(stream.encode(whole[i : i + step]) for i in range(0, len(whole), step)) + stream.finish()
    assert _bytes(frames) == whole
    assert not stream.truncated


@given(st.text().map(str.encode), st.integers(1, 4))
def test_text_stays_text(whole: bytes, step: int) -> None:
    stream = Stream("stdout", 10_000)
    frames = b"".join(stream.encode(whole[i : i + step]) for i in range(0, len(whole), step))
    assert b"base64" not in frames
    assert _bytes(frames) == whole


@given(_PIECES, st.integers(0, 40))
def test_the_limit(pieces: list[bytes], limit: int) -> None:
    whole = b"".join(pieces)
    stream = Stream("stdout", limit)
    frames = b"".join(stream.encode(piece) for piece in pieces) + stream.finish()
    assert _bytes(frames) == whole[:limit]
    assert stream.truncated == (len(whole) > limit)
