"""A lease: the right to write for a task, as long as nobody else has claimed it since."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    """Every write names the token; the store refuses it once a later claim or release has moved it on."""

    task_id: str
    token: int
    worker: str
    until: float  # seconds since 1970 by this process's clock: then another worker may claim the task
