"""A task's row as the contract's Task, and the Task's fields as columns."""

import json
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest
from squib.contracts.sandbox import Sandbox
from squib.contracts.task import Task, TaskSpec, TaskState, Usage
from squib.store import encode
from squib.store.tables import tasks

#: What a worker may set; the rest moves by transitions alone.
_PLAIN = frozenset(
    {"turn", "attempt", "started_at", "sandbox_id", "driver", "image", "suspended"}
    | {"base_commit", "head_commit", "result"}
)
_JSON = frozenset({"error", "usage", "sandbox", "progress"})
_HIDDEN = {"sandbox", "progress", "guest_cursor", "owner", "idempotency_key", "request_digest", "upload", "wanted_at"}
SHOWN = [c for c in tasks.c if c.name not in _HIDDEN]


def task(row: "sa.Row[Any]") -> Task:
    """Build the Task of a row of SHOWN."""
    r = row._mapping
    return Task(
        id=r["id"],
        state=TaskState(r["state"]),
        spec=codec.loads(TaskSpec, r["spec"], lenient=True),
        created_at=r["created_at"],
        updated_at=r["updated_at"],
        turn=r["turn"],
        attempt=r["attempt"],
        last_seq=r["last_seq"],
        sandbox_id=r["sandbox_id"],
        driver=r["driver"],
        image=r["image"],
        suspended=r["suspended"],
        started_at=r["started_at"],
        finished_at=r["finished_at"],
        cancel_requested=r["cancel_requested"],
        base_commit=r["base_commit"],
        head_commit=r["head_commit"],
        result=r["result"],
        error=json.loads(r["error"]) if r["error"] else None,
        usage=codec.loads(Usage, r["usage"], lenient=True),
        retry_of=r["retry_of"],
    )


def sandbox(text: str | None) -> Sandbox | None:
    """Read the sandbox's column."""
    return codec.loads(Sandbox, text, lenient=True) if text else None


def columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """What to write for these fields of a Task (and `sandbox`). Raises TypeError for another name."""
    if unknown := set(given) - _PLAIN - _JSON:
        raise TypeError(f"a worker does not set {', '.join(sorted(unknown))}")
    written: dict[str, Any] = {"updated_at": time.time()}
    for name, value in given.items():
        if name in _JSON:
            written[name] = None if value is None else encode.column(codec.encode(value))
        else:
            written[name] = encode.clean(value) if isinstance(value, str) else value
    return written


def spec_text(spec: TaskSpec) -> str:
    """The spec as JSON text. Raises InvalidRequest where a string in it is no Unicode."""
    try:
        return codec.dumps(spec).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("prompt: must be valid Unicode", fields={"prompt": "must be valid Unicode"}) from None
