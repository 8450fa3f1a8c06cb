"""The queue protocol: it carries ids and wakes workers; the task row, with its lease, is the truth."""

from typing import Protocol


class Queue(Protocol):
    """One file a queue; one line in `queue/registry.py`. At least once, in no promised order."""

    async def put(self, task_id: str) -> None:
        """Say that the task may be claimed. Losing this costs delay, not the task: the sweep finds it."""

    async def get(self, timeout: float) -> str | None:
        """Wait up to `timeout` seconds for an id. It stays invisible to others until `done` or `release`."""

    async def done(self, task_id: str) -> None:
        """Forget the id: its task has ended or is another's."""

    async def release(self, task_id: str) -> None:
        """Give the id back at once: another worker may have it."""

    async def close(self) -> None:
        """Let go of connections."""
