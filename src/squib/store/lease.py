"""A lease: the right to write for a task, as long as nobody else has claimed it since."""

from dataclasses import dataclass, field
from typing import Any

from squib.contracts.task import Task, TaskState


@dataclass(frozen=True, slots=True)
class Lease:
    """Every write names the token; the store refuses it once a later claim or release has moved it on."""

    task_id: str
    token: int
    worker: str
    until: float  # seconds since 1970 by this process's clock: then another worker may claim the task


@dataclass(frozen=True, slots=True)
class Begin:
    """A worker's first move of a task, made in the transaction that gives it the task."""

    to: TaskState
    data: dict[str, Any]  # of the event
    notes: dict[str, Any]  # the worker's own
    columns: dict[str, Any] = field(default_factory=dict)  # as for `tasks.update`


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that was claimed, and what its worker needs to begin: read in the transaction that claimed it."""

    lease: Lease
    task: Task
    notes: dict[str, Any]  # the worker's own, from an earlier lease or its first move; empty at first
    begun: bool = False  # the first move has been made
