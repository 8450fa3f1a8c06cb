"""Which ids wait and which are out: the part that the queues of one process share."""

from collections import deque
from collections.abc import Collection


class Handout:
    """Ids that wait, in order, and those that a worker holds. An id is never in the hands of two."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._known: set[str] = set()  # those that wait
        self._held: dict[str, bool] = {}  # those that are out; whether they were put again meanwhile

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

    def refill(self, ids: Collection[str]) -> None:
        """Let those of these wait that neither wait nor are out."""
        for task_id in ids:
            if task_id not in self._held:
                self.put(task_id)

    def take(self) -> str | None:
        """Hand the next id out."""
        if not self._waiting:
            return None
        task_id = self._waiting.popleft()
        self._known.discard(task_id)
        self._held[task_id] = False
        return task_id

    def done(self, task_id: str) -> bool:
        """The id is no longer out. Whether it waits again, because it was put meanwhile."""
        return self._held.pop(task_id, False) and self.put(task_id)

    def release(self, task_id: str) -> bool:
        """Take the id back, to wait again. Whether it was out."""
        return self._held.pop(task_id, None) is not None and self.put(task_id)
