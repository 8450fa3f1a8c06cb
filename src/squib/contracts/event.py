"""Events: what happened to a task, numbered without holes, and what a guest says, numbered within its epoch."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: The most that one event's `data` may hold when encoded, in bytes; a producer truncates and says so.
MAX_DATA_BYTES = 256 * 1024


class EventType(StrEnum):
    """The names. A task's transitions are `task.` and the name of the state that it entered."""

    TASK_QUEUED = "task.queued"  # {attempt, reason?}: created, or put back after a fault of the infrastructure
    TASK_PROVISIONING = "task.provisioning"
    TASK_RUNNING = "task.running"  # {turn}
    TASK_IDLE = "task.idle"  # {turn, until}: the sandbox is kept for a follow-up
    TASK_SUCCEEDED = "task.succeeded"  # {result}
    TASK_FAILED = "task.failed"  # {error: a problem document}
    TASK_CANCELLED = "task.cancelled"  # {reason}
    TASK_TIMED_OUT = "task.timed_out"  # {limit, seconds}
    TASK_MESSAGE = "task.message"  # {turn, prompt}: a follow-up was accepted
    TASK_CANCEL_REQUESTED = "task.cancel_requested"  # {by}
    SANDBOX_CREATED = "sandbox.created"  # {sandbox_id, driver, isolation, image, warm, snapshot}
    SANDBOX_SUSPENDED = "sandbox.suspended"  # {sandbox_id, how: "memory" or "workspace"}: what was put to disk
    SANDBOX_RESUMED = "sandbox.resumed"  # {sandbox_id}: it goes on where it was, its processes too
    SANDBOX_LOST = "sandbox.lost"  # {sandbox_id, detail}
    SANDBOX_DELETED = "sandbox.deleted"  # {sandbox_id}
    RUNTIME_READY = "runtime.ready"  # {epoch, version}
    RUNTIME_GAP = "runtime.gap"  # {epoch, first, last, reason}: these guest events are lost, and this says so
    RUNTIME_LOG = "runtime.log"  # {level, message}
    RUNTIME_RESTORED = "runtime.restored"  # {from, lost}: a new sandbox goes on from a saved workspace
    AGENT_STARTED = "agent.started"  # {agent, run_id, pid, model, session_id, argv}
    AGENT_MESSAGE = "agent.message"  # {role, text}
    AGENT_LOG = "agent.log"  # {stream, text}: a line that is not the agent's protocol, stderr included
    AGENT_TOOL = "agent.tool"  # {id, name, input}: a call begins
    AGENT_OUTPUT = "agent.output"  # {id, text, is_error, truncated}: what the call gave
    AGENT_USAGE = "agent.usage"  # {input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd}
    AGENT_COMPLETED = "agent.completed"  # {result, session_id, turns, duration_ms}
    AGENT_FAILED = "agent.failed"  # {reason, exit_code, detail}
    GIT_CLONED = "git.cloned"  # {commit, branch}
    GIT_COMMIT = "git.commit"  # {commit, subject}
    GIT_SAVED = "git.saved"  # {head, work, bytes}: saved outside the sandbox
    TESTS_STARTED = "tests.started"  # {command}
    TESTS_COMPLETED = "tests.completed"  # {exit_code, passed, output, truncated}


class Source(StrEnum):
    """Who said it."""

    API = "api"
    SCHEDULER = "scheduler"
    GUEST = "guest"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Draft:
    """An event not yet numbered. `type` is open: an agent may say what no list here foresaw."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    source: str = Source.SCHEDULER
    time: float = 0.0  # seconds since 1970; 0 lets the numbering room fill it in


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """An event as the guest numbers it: `n` starts at 1 in each epoch (one per boot or restore), without holes."""

    epoch: str
    n: int
    type: str
    time: float
    source: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a task. `seq` starts at 1 and has no hole and no repeat, ever."""

    task_id: str
    seq: int
    type: str
    time: float
    source: str
    data: dict[str, Any]
