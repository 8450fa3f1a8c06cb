"""Tasks: what a user submits, the states that it passes through, and the table of allowed transitions."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import EventType
from squib.contracts.image import is_digest, is_name

MAX_PROMPT_CHARS = 100_000
#: Nothing before the host: who sees the task sees its URL, and so does whoever reads the database.
REPOSITORY_URL = r"https://([^\x00-\x20\x7f/?#@:\[\]\\]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?#][^\x00-\x20\x7f]*)?"


class TaskState(StrEnum):
    """Where a task stands. The last four are terminal, and terminal is final."""

    QUEUED = "queued"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    IDLE = "idle"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def terminal(self) -> bool:
        """Whether no transition leads out of this state."""
        return not TRANSITIONS[self]

    @property
    def event(self) -> EventType:
        """The event that tells of the entry into this state."""
        return EventType(f"task.{self.value}")


_ENDS = frozenset({TaskState.FAILED, TaskState.CANCELLED, TaskState.TIMED_OUT})
#: From each state to those that may follow. Back to `queued` only after a fault of the infrastructure.
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: _ENDS | {TaskState.PROVISIONING},
    TaskState.PROVISIONING: _ENDS | {TaskState.RUNNING, TaskState.QUEUED},
    TaskState.RUNNING: _ENDS | {TaskState.IDLE, TaskState.SUCCEEDED, TaskState.QUEUED},
    TaskState.IDLE: _ENDS | {TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.QUEUED},
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
    TaskState.TIMED_OUT: frozenset(),
}


def _check(condition: bool, field_name: str, message: str) -> None:
    if not condition:
        raise InvalidRequest(f"{field_name}: {message}", fields={field_name: message})


@dataclass(frozen=True, slots=True)
class Repository:
    """Where the work starts: an https URL, or an upload made with POST /api/v1/uploads; exactly one of them."""

    url: str | None = None
    ref: str | None = None  # a branch, tag or commit; the remote's HEAD where absent
    upload: str | None = None  # the id that the upload was answered with

    def __post_init__(self) -> None:
        _check((self.url is None) != (self.upload is None), "url", "give either a url or an upload")
        _check(self.url is None or self.url.startswith("https://"), "url", "must start with https://")
        _check(self.url is None or len(self.url) <= 2000, "url", "must be at most 2000 characters")
        _check(
            self.url is None or re.fullmatch(REPOSITORY_URL, self.url) is not None,
            "url",
            "must be https://HOST[:PORT]/PATH, without blanks, a user name or a password",
        )
        _check(self.ref is None or _is_ref(self.ref), "ref", "is not a valid branch, tag or commit name")


def _is_ref(ref: str) -> bool:
    """git-check-ref-format(1)'s rules, as far as they matter for a name handed to git after `--`."""
    bad = set(" ~^:?*[\\\x7f") & set(ref) or any(ord(c) < 32 for c in ref)
    parts = ref.split("/")
    return bool(
        ref
        and len(ref) <= 255
        and not bad
        and not ref.startswith("-")
        and not ref.endswith(".")
        and ".." not in ref
        and "@{" not in ref
        and ref != "@"
        and all(p and not p.startswith(".") and not p.endswith(".lock") for p in parts)
    )


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """What the sandbox should be. `driver` names one; absent, the strongest that boots is taken."""

    driver: str | None = None
    cpu: float = 2.0  # cores
    memory: int = 2048  # MiB
    disk: int = 10240  # MiB

    def __post_init__(self) -> None:
        _check(0.1 <= self.cpu <= 64, "cpu", "must be between 0.1 and 64 cores")
        _check(256 <= self.memory <= 262_144, "memory", "must be between 256 and 262144 MiB")
        _check(64 <= self.disk <= 1_048_576, "disk", "must be between 64 and 1048576 MiB")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a task is ended. Seconds are wall-clock seconds."""

    seconds: int = 3600  # the whole task, from when it has its first sandbox
    turn_seconds: int = 1800  # one turn
    idle_seconds: int = 0  # how long the sandbox waits for a follow-up; 0: the task ends with its first turn

    def __post_init__(self) -> None:
        _check(1 <= self.seconds <= 604_800, "seconds", "must be between 1 and 604800")
        _check(1 <= self.turn_seconds <= 604_800, "turn_seconds", "must be between 1 and 604800")
        _check(0 <= self.idle_seconds <= 86_400, "idle_seconds", "must be between 0 and 86400")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """The body of POST /api/v1/tasks; `{"prompt": "…"}` alone is enough."""

    prompt: str
    agent: str | None = None  # absent: the default of the settings
    model: str | None = None
    repository: Repository | None = None
    image: str | None = None  # the root file system of its sandbox, by name or digest; absent: the host's default
    sandbox: SandboxRequest = field(default_factory=SandboxRequest)
    limits: Limits = field(default_factory=Limits)
    test_command: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(bool(self.prompt.strip()), "prompt", "must not be empty")
        _check(len(self.prompt) <= MAX_PROMPT_CHARS, "prompt", f"must be at most {MAX_PROMPT_CHARS} characters")
        _check("\x00" not in self.prompt, "prompt", "must not hold a NUL character")
        _check(
            self.image is None or is_name(self.image) or is_digest(self.image),
            "image",
            "must be the name of an image or its whole digest",
        )
        _check(self.agent is None or 0 < len(self.agent) <= 64, "agent", "must be 1 to 64 characters")
        _check(self.model is None or 0 < len(self.model) <= 200, "model", "must be 1 to 200 characters")
        _check(
            self.test_command is None or (0 < len(self.test_command) <= 10_000 and "\x00" not in self.test_command),
            "test_command",
            "must be 1 to 10000 characters without NUL",
        )
        _check(len(self.labels) <= 64, "labels", "must be at most 64")
        for key, value in self.labels.items():
            _check(
                0 < len(key) <= 63 and len(value) <= 255,
                "labels",
                "keys of 1 to 63, values to 255 characters",
            )
            _check("\x00" not in key + value, "labels", "must not hold a NUL character")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task has used so far, summed over its turns."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the API shows it."""

    id: str
    state: TaskState
    spec: TaskSpec
    created_at: float  # seconds since 1970
    updated_at: float
    turn: int = 1  # the turn that runs or ran last
    attempt: int = 1  # sandboxes that it took, beyond the first only after faults of the infrastructure
    last_seq: int = 0
    sandbox_id: str | None = None
    driver: str | None = None
    image: str | None = None  # the name of what its sandbox is made of
    suspended: str | None = None  # "memory": its sandbox is on disk; "workspace": its work is, the sandbox is gone
    started_at: float | None = None
    finished_at: float | None = None
    cancel_requested: bool = False
    base_commit: str | None = None
    head_commit: str | None = None
    result: str | None = None  # the agent's closing words
    error: dict[str, Any] | None = None  # a problem document; set when the state is failed
    usage: Usage = field(default_factory=Usage)
    retry_of: str | None = None  # the task that this one was started again from


@dataclass(frozen=True, slots=True)
class Artifact:
    """A kept result: `bundle`, `patch`, `workspace` (tar.gz) or `transcript` (NDJSON)."""

    name: str
    size: int  # bytes
    sha256: str
    media_type: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Upload:
    """A local repository that was sent in: a git bundle, what to check out of it, and what was uncommitted."""

    id: str
    size: int
    sha256: str
    commit: str  # checked out first: holds the uncommitted changes too, where there were any
    base: str | None = None  # the branch's real tip, where `commit` is one made of uncommitted changes
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """The body of POST /api/v1/tasks/{id}/messages: the prompt of one more turn in the same sandbox."""

    prompt: str

    def __post_init__(self) -> None:
        _check(bool(self.prompt.strip()), "prompt", "must not be empty")
        _check(len(self.prompt) <= MAX_PROMPT_CHARS, "prompt", f"must be at most {MAX_PROMPT_CHARS} characters")
        _check("\x00" not in self.prompt, "prompt", "must not hold a NUL character")


@dataclass(frozen=True, slots=True)
class Message:
    """A turn's prompt, numbered from 1; turn 1 is the task's own prompt."""

    task_id: str
    turn: int
    prompt: str
    created_at: float
