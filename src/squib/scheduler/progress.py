"""The scheduler's own note on a task: where it stands, so that another process can go on from there."""

from dataclasses import dataclass, field
from typing import Any

from squib.contracts import codec
from squib.contracts.task import TaskState, Usage


@dataclass(frozen=True, slots=True)
class Ending:
    """How the task will end, once decided: nothing but a lost lease keeps it from that."""

    state: TaskState
    data: dict[str, Any] = field(default_factory=dict)  # of the closing event


@dataclass(frozen=True, slots=True)
class Restored:
    """What a new sandbox was set up from, and what is gone; for the event and for the agent."""

    source: str
    lost: tuple[str, ...] = ()
    put_away: bool = False  # on purpose, while the task waited


@dataclass(slots=True)
class Progress:
    """Kept as JSON in the task's row. All times are seconds since 1970."""

    step: str = "provision"
    turn: int = 1
    told_of: str | None = None  # the sandbox whose sandbox.created has been written
    run_id: str | None = None  # minted and kept before the guest hears of it
    run_since: float | None = None
    session_id: str | None = None  # the agent's, for its next turn in the same sandbox
    digest: str | None = None  # of the workspace, when it was saved last
    saved_at: float | None = None
    branch: str | None = None  # the workspace's, when it was saved last
    idle_until: float | None = None
    tests_passed: bool | None = None
    result: str | None = None
    usage: Usage = field(default_factory=Usage)  # of the turns before this one
    restore: bool = False  # a sandbox was put away: the next one goes on from what was saved
    restored: Restored | None = None
    wanted_at: float = 0.0  # when someone reached into the sandbox last, as far as that was seen
    ending: Ending | None = None

    def next_attempt(self) -> None:
        """Begin anew in another sandbox: the turn and what is saved stay."""
        self.step, self.run_id, self.run_since, self.session_id = "provision", None, None, None
        self.digest, self.idle_until, self.restored = None, None, None

    def next_turn(self) -> None:
        """Go on to the next prompt in the same sandbox."""
        self.turn += 1
        self.step, self.run_id, self.run_since, self.idle_until = "run", None, None, None
        self.tests_passed, self.restored = None, None


def load(document: dict[str, Any]) -> Progress:
    """Read what a scheduler wrote, perhaps an older or newer one."""
    return codec.decode(Progress, document, lenient=True)


def dump(progress: Progress) -> dict[str, Any]:
    """As plain JSON types."""
    document: dict[str, Any] = codec.encode(progress)
    return document
