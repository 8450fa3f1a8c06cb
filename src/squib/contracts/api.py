"""What the public API speaks beside tasks and events: pages, lists and small documents about the caller."""

from dataclasses import dataclass, field
from typing import Any

from squib.contracts.errors import InvalidRequest
from squib.contracts.event import Event
from squib.contracts.task import Artifact, Task

MAX_NAME_CHARS = 100
MAX_REASON_CHARS = 1000


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some of the caller's tasks, newest first; `next` is the cursor of those after them."""

    tasks: list[Task]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events in order of `seq`; `last` is the newest one's of the task."""

    events: list[Event]
    last: int


@dataclass(frozen=True, slots=True)
class ArtifactList:
    """What is kept of a task."""

    artifacts: list[Artifact]


@dataclass(frozen=True, slots=True)
class CancelBody:
    """Why, in the caller's words; an empty body will do."""

    reason: str | None = None

    def __post_init__(self) -> None:
        if self.reason is not None and len(self.reason) > MAX_REASON_CHARS:
            message = f"must be at most {MAX_REASON_CHARS} characters"
            raise InvalidRequest(f"reason: {message}", fields={"reason": message})


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The body of POST /api/v1/tokens."""

    name: str

    def __post_init__(self) -> None:
        if not (self.name.strip() and len(self.name) <= MAX_NAME_CHARS):
            message = f"must be 1 to {MAX_NAME_CHARS} characters, not all of them blank"
            raise InvalidRequest(f"name: {message}", fields={"name": message})


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed; nobody can see its secret again."""

    id: str
    name: str
    created_at: float  # seconds since 1970
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made. `secret` is shown this once."""

    id: str
    name: str
    secret: str


@dataclass(frozen=True, slots=True)
class TokenList:
    """The caller's tokens."""

    tokens: list[Token]


@dataclass(frozen=True, slots=True)
class Me:
    """Whose token it is."""

    id: str


@dataclass(frozen=True, slots=True)
class Info:
    """What this installation offers. An empty list of agents or drivers: it is not known here."""

    version: str
    default_agent: str
    agents: list[str]
    drivers: list[str]
    images: list[str] = field(default_factory=list)  # that are here by name, where that is known


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a process works."""

    status: str


@dataclass(frozen=True, slots=True)
class Problem:
    """RFC 9457: every answer of 400 and above."""

    type: str
    title: str
    status: int
    code: str  # for a program
    detail: str  # for a person
    advice: str = ""  # what to do next
    fields: dict[str, str] = field(default_factory=dict)  # what was wrong, by the field's dotted path

    @classmethod
    def example(cls) -> dict[str, Any]:
        """One, for the documentation."""
        error = InvalidRequest(
            "limits.seconds: must be between 1 and 604800", fields={"limits.seconds": "must be between 1 and 604800"}
        )
        return error.problem()
