"""The format of Anthropic's Messages API: a step as one JSON answer, or as the events of a stream."""

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

from squib.testing.script import Step

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, message: str) -> bytes:
    """The body of a failure."""
    kind = _ERRORS.get(status, "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def _blocks(step: Step) -> list[dict[str, Any]]:
    if step.tool is None:
        return [{"type": "text", "text": step.text}]
    call = {"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}", "name": step.tool, "input": step.input}
    return [{"type": "text", "text": step.say}, call] if step.say else [call]


def _head(step: Step, model: str, input_tokens: int) -> dict[str, Any]:
    usage = {"input_tokens": input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }


def _ending(step: Step) -> tuple[str, int]:
    """Why the answer stops, and the tokens that it is said to have cost: one for four characters."""
    size = len(json.dumps(_blocks(step)))
    return ("end_turn" if step.tool is None else "tool_use"), size // 4


def whole(step: Step, model: str, input_tokens: int) -> bytes:
    """The answer in one piece."""
    stop, output_tokens = _ending(step)
    head = _head(step, model, input_tokens)
    usage = {**head["usage"], "output_tokens": output_tokens}
    return json.dumps({**head, "content": _blocks(step), "stop_reason": stop, "usage": usage}).encode()


def stream(step: Step, model: str, input_tokens: int) -> Iterator[tuple[bytes, bool]]:
    """The answer as server-sent events; True goes with those that a slow step waits before."""
    yield _event("message_start", message=_head(step, model, input_tokens)), False
    for index, block in enumerate(_blocks(step)):
        if block["type"] == "text":
            yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""}), False
            for word in re.findall(r"\S+\s*", block["text"]):
                yield _event("content_block_delta", index=index, delta={"type": "text_delta", "text": word}), True
        else:
            yield _event("content_block_start", index=index, content_block={**block, "input": {}}), False
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            yield _event("content_block_delta", index=index, delta=delta), False
        yield _event("content_block_stop", index=index), False
    stop, output_tokens = _ending(step)
    end = {"stop_reason": stop, "stop_sequence": None}
    yield _event("message_delta", delta=end, usage={"output_tokens": output_tokens}), False
    yield _event("message_stop"), False


def _event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
