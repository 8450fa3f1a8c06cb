"""Every endpoint of the public API, without I/O: how its request is built and how its answer is read."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from squib.client.errors import UnexpectedAnswer
from squib.contracts import codec
from squib.contracts.api import EventPage, Info, Me, NewToken, TaskPage, Token
from squib.contracts.errors import InvalidRequest, SquibError, from_problem
from squib.contracts.guest import BUNDLE, SSE, FileEntry, FileList, TerminalRequest, TerminalResult
from squib.contracts.task import Artifact, Message, MessageRequest, Task, TaskSpec, TaskState, Upload

T = TypeVar("T")
API = "/api/v1"
_MARGIN = 30.0  # seconds beside those of a command
Params = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read whole."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and the function that reads its answer. `repeatable`: a lost answer may be asked for again.

    `patience`: seconds that the server may well be silent, where that is longer than the client's own bound.
    """

    method: str
    path: str
    parse: Callable[[Reply], T]
    params: Params = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = False
    patience: float = 0.0


def failure(reply: Reply) -> SquibError:
    """The error that an answer of 400 or above tells of."""
    try:
        document = json.loads(reply.body)
    except ValueError:
        document = None
    if isinstance(document, dict) and "code" in document:
        return from_problem(document)
    return UnexpectedAnswer(f"HTTP {reply.status} without a problem document")


def _check(reply: Reply) -> Reply:
    if reply.status >= 400:
        raise failure(reply)
    if reply.status >= 300:
        raise UnexpectedAnswer(f"HTTP {reply.status}: a redirect, to {reply.headers.get('location', 'nowhere')!r}")
    return reply


def _json(reply: Reply) -> Any:
    try:
        return json.loads(_check(reply).body)
    except ValueError as error:
        raise UnexpectedAnswer(f"HTTP {reply.status} without JSON") from error


def _as(kind: type[T], *, under: str | None = None) -> Callable[[Reply], T]:
    """A reader of `kind`; fields that a newer server added are passed over."""

    def parse(reply: Reply) -> T:
        document = _json(reply)
        try:
            return codec.decode(kind, document[under] if under else document, lenient=True)
        except (InvalidRequest, KeyError, TypeError) as error:
            raise UnexpectedAnswer(f"the answer does not fit: {error}") from error

    return parse


def _nothing(reply: Reply) -> None:
    _check(reply)


def _bytes(reply: Reply) -> bytes:
    return _check(reply).body


def _get(path: str, parse: Callable[[Reply], T], params: Params = ()) -> Call[T]:
    return Call("GET", API + path, parse, params, repeatable=True)


def _post(path: str, parse: Callable[[Reply], T], body: Any = None, *, key: str | None = None) -> Call[T]:
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    return Call("POST", API + path, parse, (), headers, codec.dumps(body) if body is not None else b"", bool(key))


def _task(task_id: str) -> str:
    return "/tasks/" + quote(task_id, safe="")


def create_task(spec: TaskSpec, idempotency_key: str | None = None) -> Call[Task]:
    """POST /tasks. Always carries an Idempotency-Key, so that a repeat makes no second task."""
    return _post("/tasks", _as(Task), spec, key=idempotency_key or secrets.token_urlsafe(24))


def get_task(task_id: str) -> Call[Task]:
    """GET /tasks/{id}."""
    return _get(_task(task_id), _as(Task))


def list_tasks(
    states: Sequence[TaskState] = (),
    labels: Mapping[str, str] | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Call[TaskPage]:
    """GET /tasks. `limit` is 1 to 200."""
    params = [("limit", str(limit)), *(("state", state.value) for state in states)]
    params += [("label", f"{key}={value}") for key, value in (labels or {}).items()]
    if cursor:
        params.append(("cursor", cursor))
    return _get("/tasks", _as(TaskPage), params)


def cancel_task(task_id: str, reason: str | None = None) -> Call[Task]:
    """POST /tasks/{id}/cancel. The same the second time."""
    call = _post(_task(task_id) + "/cancel", _as(Task), {"reason": reason} if reason else None)
    return replace(call, repeatable=True)


def retry_task(task_id: str, idempotency_key: str | None = None) -> Call[Task]:
    """POST /tasks/{id}/retry: a new task from an ended one."""
    return _post(_task(task_id) + "/retry", _as(Task), key=idempotency_key or secrets.token_urlsafe(24))


def send_message(task_id: str, prompt: str) -> Call[Message]:
    """POST /tasks/{id}/messages: one more turn. Never repeated: it would be a turn twice."""
    return _post(_task(task_id) + "/messages", _as(Message), MessageRequest(prompt))


def get_events(task_id: str, after: int = 0, limit: int = 200) -> Call[EventPage]:
    """GET /tasks/{id}/events as JSON."""
    return _get(_task(task_id) + "/events", _as(EventPage), [("after", str(after)), ("limit", str(limit))])


def stream_events(task_id: str, after: int) -> Call[bytes]:
    """GET /tasks/{id}/events as a stream that goes on after the event of that number."""
    headers = {"Accept": SSE, "Cache-Control": "no-store", "Last-Event-ID": str(after)}
    return Call("GET", API + _task(task_id) + "/events", _bytes, [("after", str(after))], headers, repeatable=True)


def list_artifacts(task_id: str) -> Call[list[Artifact]]:
    """GET /tasks/{id}/artifacts."""
    return _get(_task(task_id) + "/artifacts", _as(list[Artifact], under="artifacts"))


def download_artifact(task_id: str, name: str) -> Call[bytes]:
    """GET /tasks/{id}/artifacts/{name}."""
    return _get(f"{_task(task_id)}/artifacts/{quote(name, safe='')}", _bytes)


def get_diff(task_id: str) -> Call[bytes]:
    """GET /tasks/{id}/diff: what the live sandbox holds."""
    return _get(_task(task_id) + "/diff", _bytes)


def run_terminal(task_id: str, request: TerminalRequest) -> Call[TerminalResult]:
    """POST /tasks/{id}/terminal: one command in the live sandbox, which may be silent to its own time limit."""
    call = _post(_task(task_id) + "/terminal", _as(TerminalResult), request)
    return replace(call, patience=request.timeout_seconds + _MARGIN)


def open_pty(task_id: str, cols: int, rows: int, command: str | None = None) -> Call[bytes]:
    """WS /tasks/{id}/terminal/pty; what an HTTP answer says is read only where the server refuses."""
    params = [("cols", str(cols)), ("rows", str(rows)), *([("command", command)] if command else [])]
    return Call("GET", API + _task(task_id) + "/terminal/pty", _bytes, params)


def list_files(task_id: str, path: str = ".", depth: int = 1) -> Call[FileList]:
    """GET /tasks/{id}/files."""
    return _get(_task(task_id) + "/files", _as(FileList), [("path", path), ("depth", str(depth))])


def read_file(task_id: str, path: str) -> Call[bytes]:
    """GET /tasks/{id}/files/content."""
    return _get(_task(task_id) + "/files/content", _bytes, [("path", path)])


def write_file(task_id: str, path: str, content: bytes | None = None) -> Call[FileEntry]:
    """PUT /tasks/{id}/files/content. The same the second time, unless the content is streamed beside it."""
    headers = {"Content-Type": "application/octet-stream"}
    where = API + _task(task_id) + "/files/content"
    return Call("PUT", where, _as(FileEntry), [("path", path)], headers, content, repeatable=content is not None)


def create_upload(
    commit: str, base: str | None = None, branch: str | None = None, size: int | None = None
) -> Call[Upload]:
    """POST /uploads; the bundle is streamed beside it. A known size lets the server refuse it before it is sent."""
    named = (("commit", commit), ("base", base), ("branch", branch))
    params = [(name, value) for name, value in named if value is not None]
    length = {} if size is None else {"Content-Length": str(size)}
    return Call("POST", API + "/uploads", _as(Upload), params, {"Content-Type": BUNDLE, **length})


def list_tokens() -> Call[list[Token]]:
    """GET /tokens."""
    return _get("/tokens", _as(list[Token], under="tokens"))


def create_token(name: str) -> Call[NewToken]:
    """POST /tokens: the answer alone holds the secret."""
    return _post("/tokens", _as(NewToken), {"name": name})


def revoke_token(token_id: str) -> Call[None]:
    """DELETE /tokens/{id}."""
    return Call("DELETE", f"{API}/tokens/{quote(token_id, safe='')}", _nothing, repeatable=True)


def info() -> Call[Info]:
    """GET /info."""
    return _get("/info", _as(Info))


def me() -> Call[Me]:
    """GET /me."""
    return _get("/me", _as(Me))
