"""Lines and event data are cut to their bounds, and nothing else happens to them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squib.guest.bound import Lines, shrink


def _cut(pieces: list[bytes], limit: int = 1000) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = []
    lines = Lines(lambda line, size: found.append((line, size)), limit)
    for piece in pieces:
        lines.feed(piece)
    lines.finish()
    return found


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"x", b"\n")), max_size=20))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert _cut(pieces) == [(line, len(line)) for line in expected]


def test_a_line_over_the_limit_is_its_head() -> None:
    found = _cut([b"a" * 400] * 1000 + [b"\nnext\n"], limit=1000)
    assert [size for _, size in found] == [400_000, 4]
    assert 0 < len(found[0][0]) < 400_000
    assert found[1] == (b"next", 4)


@pytest.mark.parametrize(
    "data",
    [
        {"text": "x" * 1_000_000, "keep": "short"},
        {"deep": {"a": [{"b": "é" * 300_000}], "n": 1}},
        {"many": ["y" * 5000] * 200, "keep": 1},
        {"numbers": list(range(500_000))},
        {"k" * 300_000: 1},
    ],
)
def test_shrink(data: dict[str, Any]) -> None:
    smaller = shrink(data, 100_000)
    assert smaller["truncated"] is True
    assert len(json.dumps(smaller, ensure_ascii=False).encode()) <= 100_000
    assert smaller.get("keep", data.get("keep")) == data.get("keep")
