"""Which ids wait and which are out: the part that the queues of one process share."""

from collections import deque
from collections.abc import Collection


class Handout:
    """Ids that wait, in order, and those that a worker holds. An id is never in the hands of two."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._known: set[str] = set()  # those that wait
        self._held: dict[str, bool] = {}  # those that are out; whether they were put again meanwhile
        self._out: set[str] | None = None  # those that were out at any time since `look`

    def put(self, task_id: str) -> bool:
        """Let the id wait, unless it does; one that is out waits once it is done. Whether it can be taken now."""
        if task_id in self._held:
            self._held[task_id] = True
            return False
        if task_id in self._known:
            return False
        self._known.add(task_id)
        self._waiting.append(task_id)
        return True

    def look(self) -> None:
        """A look at what may be claimed begins. What is out before its end may be claimed no more when it ends."""
        self._out = set(self._held)

    def refill(self, ids: Collection[str]) -> None:
        """Let those of these that the look found wait, but for what was out meanwhile."""
        out, self._out = self._out if self._out is not None else set(self._held), None
        for task_id in ids:
            if task_id not in out:
                self.put(task_id)

    def take(self) -> str | None:
        """Hand the next id out."""
        if not self._waiting:
            return None
        task_id = self._waiting.popleft()
        self._known.discard(task_id)
        self._held[task_id] = False
        if self._out is not None:
            self._out.add(task_id)
        return task_id

    def done(self, task_id: str) -> bool:
        """The id is no longer out. Whether it waits again, because it was put meanwhile."""
        return self._held.pop(task_id, False) and self.put(task_id)

    def release(self, task_id: str) -> bool:
        """Take the id back, to wait again. Whether it was out."""
        return self._held.pop(task_id, None) is not None and self.put(task_id)
