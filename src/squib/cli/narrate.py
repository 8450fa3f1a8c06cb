"""An event as a line for a person. Pure; what agents say is cleaned of terminal escapes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from squib.cli.output import clean
from squib.contracts.event import Event, EventType

_MOST_LINES = 12
_MOST_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Line:
    """What to show: a short label, text that may have several lines, and styles of `output.styled`."""

    label: str
    text: str
    styles: tuple[str, ...] = ()


def line(event: Event) -> Line | None:
    """The line for an event; None for one that only programs want."""
    data = event.data
    if event.type in _QUIET:
        return None
    if (tell := _TELLERS.get(event.type)) is not None:
        told = tell(data)
    else:
        told = Line(event.type, _short(", ".join(f"{key}={value}" for key, value in data.items())), ("dim",))
    return Line(clean(told.label, lines=False), clean(told.text), told.styles)


def stamp(event: Event) -> str:
    """The event's local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(max(0.0, event.time)))


def _text(data: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that holds something, as text."""
    found = next((data[name] for name in names if data.get(name) not in (None, "", [], {})), "")
    return found if isinstance(found, str) else str(found)


def _short(text: str, lines: int = _MOST_LINES) -> str:
    text = clean(text).strip("\n")
    cut = text[:_MOST_CHARS].split("\n")
    left = text.count("\n") + 1 - lines
    return "\n".join([*cut[:lines], f"… {left} more lines"] if left > 0 else cut) + (
        "…" if len(text) > _MOST_CHARS else ""
    )


def _end(text: str, lines: int = _MOST_LINES) -> str:
    """The last lines: what a test run says of itself stands there."""
    kept = clean(text[-_MOST_CHARS:]).strip("\n").split("\n")[-lines:]
    return "\n".join(["…", *kept] if len("\n".join(kept)) < len(text.strip("\n")) else kept)


def _queued(data: Mapping[str, Any]) -> Line:
    reason = _text(data, "reason")
    return Line("queued", _short(reason), ("yellow",)) if reason else Line("queued", "waiting for a sandbox")


def _running(data: Mapping[str, Any]) -> Line:
    turn = data.get("turn", 1)
    return Line("running", f"turn {turn}" if turn != 1 else "", ("bold",))


def _failed(data: Mapping[str, Any]) -> Line:
    error = data.get("error")
    error = error if isinstance(error, Mapping) else {}
    return Line("failed", _short(" ".join(filter(None, (_text(error, "detail"), _text(error, "advice"))))), ("red",))


def _timed_out(data: Mapping[str, Any]) -> Line:
    return Line("timed out", f"limit {clean(_text(data, 'limit'))} of {data.get('seconds')} s", ("red",))


def _created(data: Mapping[str, Any]) -> Line:
    warm = "ready from the pool" if data.get("warm") else "made now"
    snapshot = data.get("snapshot") and not data.get("warm")
    image = _text(data, "image")
    of = f" of {image}" if image not in ("", "host") else ""
    how = "from a snapshot" if snapshot else warm
    isolation = _text(data, "isolation").replace("_", " ")
    return Line("sandbox", clean(f"{_text(data, 'driver')}{of} ({isolation}), {how}"))


def _suspended(data: Mapping[str, Any]) -> Line:
    if data.get("how") == "memory":
        return Line("suspended", "on disk with its memory; it goes on where it was", ("dim",))
    return Line("put away", "the work is kept, the sandbox is gone; the next message gets a new one", ("dim",))


def _restored(data: Mapping[str, Any]) -> Line:
    source = data.get("from")
    return Line(
        "restored", _short(f"from {_text(source if isinstance(source, Mapping) else data, 'text')}"), ("yellow",)
    )


def _gap(data: Mapping[str, Any]) -> Line:
    span = f"{data.get('first')} to {data.get('last')}"
    return Line("gap", clean(f"events {span} of the sandbox are lost: {_text(data, 'reason')}"), ("yellow",))


def _log(data: Mapping[str, Any]) -> Line:
    return Line(clean(_text(data, "stream", "level") or "log"), _short(_text(data, "text", "message")), ("dim",))


def _tool(data: Mapping[str, Any]) -> Line:
    arguments = data.get("input")
    if isinstance(arguments, Mapping):
        shown = _text(arguments, "command", "file_path", "path", "pattern") or str(dict(arguments))
    else:
        shown = str(arguments or "")
    return Line("tool", _short(f"{_text(data, 'name')} {shown}", 4), ("cyan",))


def _output(data: Mapping[str, Any]) -> Line:
    return Line("", _short(_text(data, "text")), ("red",) if data.get("is_error") else ("dim",))


def _completed(data: Mapping[str, Any]) -> Line:
    return Line("agent done", _short(_text(data, "result"), 3), ("bold",))


def _agent_failed(data: Mapping[str, Any]) -> Line:
    return Line(
        "agent failed", _short(" ".join(filter(None, (_text(data, "reason"), _text(data, "detail"))))), ("red",)
    )


def _tests(data: Mapping[str, Any]) -> Line:
    if data.get("passed"):
        return Line("tests", "passed", ("green",))
    return Line(
        "tests", f"failed (exit {clean(str(data.get('exit_code')))})\n{_end(_text(data, 'output'))}", ("red",)
    )


_QUIET = frozenset({EventType.AGENT_USAGE, EventType.GIT_SAVED, EventType.RUNTIME_READY})
_TELLERS: dict[str, Callable[[Mapping[str, Any]], Line]] = {
    EventType.TASK_QUEUED: _queued,
    EventType.TASK_PROVISIONING: lambda data: Line("provisioning", ""),
    EventType.TASK_RUNNING: _running,
    EventType.TASK_IDLE: lambda data: Line("idle", "the turn is over, the sandbox waits for another", ("yellow",)),
    EventType.TASK_SUCCEEDED: lambda data: Line("succeeded", "", ("green",)),
    EventType.TASK_FAILED: _failed,
    EventType.TASK_CANCELLED: lambda data: Line("cancelled", _short(_text(data, "reason")), ("yellow",)),
    EventType.TASK_TIMED_OUT: _timed_out,
    EventType.TASK_MESSAGE: lambda data: Line("you", _short(_text(data, "prompt")), ("bold",)),
    EventType.TASK_CANCEL_REQUESTED: lambda data: Line("cancelling", "", ("yellow",)),
    EventType.SANDBOX_CREATED: _created,
    EventType.SANDBOX_SUSPENDED: _suspended,
    EventType.SANDBOX_RESUMED: lambda data: Line("resumed", "the sandbox goes on where it was", ("dim",)),
    EventType.SANDBOX_LOST: lambda data: Line("sandbox lost", _short(_text(data, "detail")), ("red",)),
    EventType.SANDBOX_DELETED: lambda data: Line("sandbox", "removed", ("dim",)),
    EventType.RUNTIME_GAP: _gap,
    EventType.RUNTIME_LOG: _log,
    EventType.RUNTIME_RESTORED: _restored,
    EventType.AGENT_STARTED: lambda data: Line(
        "agent", clean(" ".join(filter(None, (_text(data, "agent"), _text(data, "model")))))
    ),
    EventType.AGENT_MESSAGE: lambda data: Line("says", _short(_text(data, "text"), 40)),
    EventType.AGENT_LOG: _log,
    EventType.AGENT_TOOL: _tool,
    EventType.AGENT_OUTPUT: _output,
    EventType.AGENT_COMPLETED: _completed,
    EventType.AGENT_FAILED: _agent_failed,
    EventType.GIT_CLONED: lambda data: Line(
        "repository", clean(f"{_text(data, 'branch')} at {_text(data, 'commit')[:12]}")
    ),
    EventType.GIT_COMMIT: lambda data: Line(
        "commit", clean(f"{_text(data, 'commit')[:12]} {_text(data, 'subject')}", lines=False), ("green",)
    ),
    EventType.TESTS_STARTED: lambda data: Line("tests", _short(_text(data, "command"), 2)),
    EventType.TESTS_COMPLETED: _tests,
}
