"""Bounds: lines cut out of a stream, and event data cut down to what one event may hold."""

import json
from collections.abc import Callable
from typing import Any

from squib.contracts.event import MAX_DATA_BYTES

#: A line beyond this is no protocol of any agent: it is not parsed, only its head is kept.
MAX_LINE_BYTES = 16 * 1024 * 1024
_HEAD_BYTES = MAX_DATA_BYTES // 2
_DEEP = 32


class Lines:
    """Cuts a stream of bytes into lines. One over `limit` is given as its head, with its whole length."""

    __slots__ = ("_held", "_limit", "_parts", "_sink", "_size")

    def __init__(self, sink: Callable[[bytes, int], None], limit: int = MAX_LINE_BYTES):
        self._sink, self._limit = sink, limit
        self._parts: list[bytes] = []
        self._held = self._size = 0

    def feed(self, data: bytes) -> None:
        """Take bytes; call the sink for each line that they end, without its newline, and its length."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._size:
            self._keep(lines[0])
            self._emit()
            del lines[0]
        for line in lines:
            self._sink(line, len(line))
        if rest:
            self._keep(rest)

    def finish(self) -> None:
        """Give the last line, which no newline ended."""
        if self._size:
            self._emit()

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._held <= self._limit:
            self._parts.append(piece)
            self._held += len(piece)
        if self._held > self._limit:
            self._parts = [b"".join(self._parts)[:_HEAD_BYTES]]

    def _emit(self) -> None:
        line, size = b"".join(self._parts), self._size
        self._parts, self._held, self._size = [], 0, 0
        self._sink(line, size)


def shrink(data: dict[str, Any], limit: int = MAX_DATA_BYTES) -> dict[str, Any]:
    """Cut the strings of `data` until it fits in `limit` bytes of JSON, and say so by `truncated: true`.

    Where no shorter strings help (a million numbers), a head of its JSON is all that is left, as `text`.
    """
    longest = limit // 2
    while longest >= 256:
        smaller = {**{k: _cut(v, longest, _DEEP) for k, v in data.items()}, "truncated": True}
        if _size(smaller) <= limit:
            return smaller
        longest //= 4
    return {"text": json.dumps(data, default=str)[: limit // 8], "truncated": True}


def _cut(value: Any, longest: int, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest]
    if depth and isinstance(value, dict):
        return {k: _cut(v, longest, depth - 1) for k, v in value.items()}
    if depth and isinstance(value, list):
        return [_cut(v, longest, depth - 1) for v in value]
    return value


def _size(data: dict[str, Any]) -> int:
    return len(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
