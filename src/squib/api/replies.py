"""JSON answers: contracts as strict UTF-8 JSON, whatever an agent once said."""

import json
import math
from typing import Any

from starlette.responses import Response

from squib.contracts import codec


def dumps(value: Any) -> bytes:
    """Encode a contract as JSON that every reader takes.

    An event may hold what Python's JSON reader lets through and JSON does not know: NaN becomes null, half a
    surrogate pair a question mark.
    """
    document = codec.encode(value)
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(document), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer whose body is this contract."""
    return Response(dumps(value), status, headers, media_type="application/json")
