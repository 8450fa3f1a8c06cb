"""A lease: the right to write for a task, as long as nobody else has claimed it since."""

from dataclasses import dataclass
from typing import Any

from squib.contracts.task import Task


@dataclass(frozen=True, slots=True)
class Lease:
    """Every write names the token; the store refuses it once a later claim or release has moved it on."""

    task_id: str
    token: int
    worker: str
    until: float  # seconds since 1970 by this process's clock: then another worker may claim the task


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that was claimed, and what its worker needs to begin: read in the transaction that claimed it."""

    lease: Lease
    task: Task
    notes: dict[str, Any]  # the worker's own, from an earlier lease; empty at first
