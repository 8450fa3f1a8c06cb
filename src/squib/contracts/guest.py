"""The guest's HTTP contract, the same on every driver. Bodies are JSON of these types unless a line says else.

    GET  /health                       Health; any authenticated request renews the guest's lease
    POST /freeze           FreezeRequest  Health, and then the guest is ready to be frozen: see there
    POST /resume           Resume      Health: after a restore, before anything else: a new epoch begins
    GET  /events?after=E:n             SSE of GuestEvent, `id: E:n`, comments as heartbeats; never ends by itself.
                                       Lost events first..last are one `runtime.gap` with n = last in their place
                                       What is left of an older epoch comes first, then the next one
    GET  /logs                         text/plain: the supervisor's own log, bounded
    POST /run              RunRequest  202 RunStatus; the same run_id again answers that run's status
    GET  /run                          RunStatus; 404 where nothing has run
    POST /run/cancel       CancelRequest  RunStatus, once the whole process tree has ended
    POST /terminal         TerminalRequest  TerminalResult, or with `Accept: text/event-stream` SSE of
                                       `stdout`/`stderr` (Chunk) and a last `exit` (TerminalResult without output)
    WS   /terminal/pty?cols&rows&command  binary frames: bytes; text frames in: PtyControl; text out: PtyExit
    POST /git/clone?commit&reset&branch  body: a git bundle -> GitState. Checks out `commit` on `branch`; with
                                       `reset`, then moves the branch there and keeps the rest as uncommitted
    POST /git/commit       CommitRequest  GitState
    POST /git/push         PushRequest 200 application/x-git-bundle of all branches and `refs/squib/work` (a
                                       commit of everything uncommitted, made with an index of its own) with
                                       GitState as JSON in the header `Squib-Git`; 204 where nothing is new
    GET  /git/diff?base                text/x-diff: the work tree, untracked files included, against `base`
    POST /files/write?path&mode        body: the bytes -> FileEntry; parents are made; `mode` in octal digits
    GET  /files/read?path&offset&limit application/octet-stream
    GET  /files/list?path&depth        FileList
    GET  /files/archive                application/gzip: a tar of the workspace
    POST /files/extract                body: such a tar -> FileList, confined; for an empty workspace

Every request carries `Authorization: Bearer TOKEN`; the guest knows only the token's SHA-256. Every path is
relative to the workspace and confined to it. An error is a problem document of `contracts.errors`. Uploads and
downloads are streamed. Unix sockets and TCP alike.
"""

from dataclasses import dataclass, field
from enum import StrEnum

CONTRACT_VERSION = 1
SSE = "text/event-stream"
BUNDLE = "application/x-git-bundle"
GIT_HEADER = "Squib-Git"
WORK_REF = "refs/squib/work"
#: git's name of the tree without entries: the base of work that began from nothing.
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """The file that the host leaves for the guest and names on its command line; it holds no secret."""

    sandbox_id: str
    token_sha256: str  # hex
    listen: str  # unix:PATH or tcp:HOST:PORT
    workspace: str = "/workspace"
    state_dir: str = "/run/squib/state"  # the event ring and the log
    home: str = "/home/agent"
    gateway: str | None = None  # unix:PATH or tcp:HOST:PORT; the guest relays 127.0.0.1:gateway_port to it
    gateway_port: int = 8990
    environment: dict[str, str] = field(default_factory=dict)  # of every program inside, before a request's own
    path: str = "/opt/squib/tools/bin:/opt/squib/tools/node_modules/.bin:/usr/local/bin:/usr/bin:/bin"
    hostname: str = "squib"
    lease_seconds: float = 120.0  # without a request for this long the guest ends itself; 0: never
    ring_bytes: int = 64 * 1024 * 1024  # of events kept on disk
    run_output_bytes: int = 1024 * 1024 * 1024  # of one run's output, in total
    command_output_bytes: int = 8 * 1024 * 1024  # of one buffered command's output, each stream
    unread_events: int = 20_000  # how far an attached reader may lag before the agent's output waits
    agents: dict[str, dict[str, str]] = field(default_factory=dict)  # per agent: settings that are not secret


@dataclass(frozen=True, slots=True)
class Health:
    """Proof of life."""

    sandbox_id: str
    epoch: str
    version: str  # squib's
    contract: int
    uptime_seconds: float
    rss_bytes: int
    run_id: str | None = None  # of the run that is active
    last_event: int = 0  # the newest n of the epoch


@dataclass(frozen=True, slots=True)
class FreezeRequest:
    """Get ready to be frozen, which happens from outside. Refused (Conflict) while a run is active.

    With `thaw`, the guest lets go of every file outside of it, its listening socket included, once it has answered;
    it comes back when a file of that name appears beside its configuration: in the frozen machine, should that go
    on, and in each that is made of it. Without, it goes on as it is, and only rests.
    """

    thaw: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """What makes a clone a stranger to its siblings."""

    sandbox_id: str
    token_sha256: str
    hostname: str
    machine_id: str  # 32 hex digits
    entropy: str  # base64 of at least 32 random bytes
    time: float  # the host's clock, seconds since 1970
    gateway: str | None = None


class RunState(StrEnum):
    """Where a run stands; all but the first are final."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One turn of an agent."""

    run_id: str
    agent: str
    prompt: str
    model: str | None = None
    session_id: str | None = None  # resume this session of the agent's
    seconds: int = 1800  # then the run is ended as timed out
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run went or goes. `reason` is for a person to act on."""

    run_id: str
    agent: str
    state: RunState
    pid: int | None = None
    exit_code: int | None = None
    reason: str | None = None
    result: str | None = None
    session_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0  # of this run alone
    started_at: float = 0.0
    finished_at: float | None = None
    epoch: str = ""
    last_event: int = 0  # the n of the run's closing event, once it is over


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """End the run: SIGTERM, then after `grace_seconds` SIGKILL, to the whole tree."""

    run_id: str
    grace_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class TerminalRequest:
    """One command; a string goes to `sh -c`. `cwd` is relative to the workspace."""

    command: str | list[str]
    cwd: str = "."
    env: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    timeout_seconds: float = 600.0
    max_output_bytes: int | None = None  # each stream; absent: the guest's own bound


@dataclass(frozen=True, slots=True)
class TerminalResult:
    """How the command ended. Bytes that are no UTF-8 are shown as U+FFFD; the streamed form loses none."""

    exit_code: int | None  # absent where a signal ended it
    signal: int | None
    timed_out: bool
    duration_ms: float
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of streamed output: `text` where the bytes are whole UTF-8, else `base64`."""

    text: str | None = None
    base64: str | None = None


@dataclass(frozen=True, slots=True)
class PtyControl:
    """A client's text frame on the terminal's WebSocket."""

    cols: int
    rows: int


@dataclass(frozen=True, slots=True)
class PtyExit:
    """The server's last text frame on the terminal's WebSocket."""

    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class GitState:
    """Where the workspace's repository stands."""

    head: str | None  # absent in a repository without a commit
    branch: str | None  # absent where HEAD is detached
    work: str | None = None  # the commit of everything uncommitted (its parent is head); absent where clean
    digest: str = ""  # changes whenever head, a branch or the work tree does


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """Commit everything in the work tree."""

    message: str
    author_name: str = "squib"
    author_email: str = "squib@localhost"


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What the host has already: those commits are left out; and the digest that it saw last."""

    have: list[str] = field(default_factory=list)
    unless: str | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file as the listing shows it; `path` is relative to the workspace."""

    path: str
    type: str  # file, directory, link, other
    size: int
    mode: int
    mtime: float


@dataclass(frozen=True, slots=True)
class FileList:
    """Entries in order of path; `truncated` where there were more than 10,000."""

    entries: list[FileEntry] = field(default_factory=list)
    truncated: bool = False
