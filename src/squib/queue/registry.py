"""The queues by name: one line each."""

from collections.abc import Callable

from squib.contracts.errors import InvalidRequest
from squib.queue.base import Queue
from squib.queue.memory import MemoryQueue
from squib.queue.sql import SqlQueue
from squib.store import Store

_QUEUES: dict[str, Callable[[Store], Queue]] = {
    "sql": SqlQueue,
    "memory": lambda _store: MemoryQueue(),
}


def names() -> list[str]:
    """All names that `make` knows."""
    return sorted(_QUEUES)


def make(name: str, store: Store) -> Queue:
    """The queue of that name. Raises InvalidRequest."""
    if name not in _QUEUES:
        message = f"must be one of {', '.join(names())}"
        raise InvalidRequest(f"queue: {message}", fields={"queue": message})
    return _QUEUES[name](store)
