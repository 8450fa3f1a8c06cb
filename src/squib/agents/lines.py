"""What the parsers share: reading a line that may be anything, and keeping an event within its bound."""

import json
from typing import Any

from squib.contracts.event import MAX_DATA_BYTES, Draft, EventType, Source

#: A line of this length can't become an event over the bound: encoding makes six bytes of one at most.
_SURELY_FITS = MAX_DATA_BYTES // 6 - 1024
_MAX_COUNT = 2**53


def document(line: bytes) -> dict[str, Any] | None:
    """The JSON object on the line, or None where it is something else."""
    if not line.startswith(b"{"):
        return None
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def draft(kind: EventType, data: dict[str, Any], size: int) -> Draft:
    """An event of the agent's, made from a line of `size` bytes; cut, with `truncated`, where it is too large."""
    return Draft(kind, data if size < _SURELY_FITS else _fitted(data), Source.AGENT)


def raw(line: bytes, stream: str = "stdout") -> Draft:
    """A line kept as it is."""
    text = line.decode("utf-8", "replace")
    return draft(EventType.AGENT_LOG, {"stream": stream, "text": text}, len(line))


def text(value: Any) -> str:
    """`value` if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def items(value: Any) -> list[dict[str, Any]]:
    """The objects in a list, whatever else is in it."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def count(value: Any) -> int:
    """A number of tokens or the like; 0 where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT else 0


def amount(value: Any) -> float:
    """A sum of money; 0 where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:  # NaN fails this too
        return float(value)
    return 0.0


def _size(data: Any) -> int:
    return len(json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _fitted(data: dict[str, Any]) -> dict[str, Any]:
    try:
        if _size(data) <= MAX_DATA_BYTES:
            return data
        for most in (32_768, 4_096, 256):
            shorter = {**_clipped(data, most), "truncated": True}
            if _size(shorter) <= MAX_DATA_BYTES:
                return shorter
    except RecursionError:
        pass
    scalars = {k: v for k, v in data.items() if isinstance(v, str | int | float | bool) or v is None}
    return {**_clipped(dict(list(scalars.items())[:16]), 1_000), "truncated": True}


def _clipped(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return value[:most]
    if isinstance(value, dict):
        return {k[:most]: _clipped(v, most) for k, v in value.items()}
    return [_clipped(v, most) for v in value[:most]] if isinstance(value, list) else value
