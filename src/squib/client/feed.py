"""A task's events over any number of connections: each event once, in order, to the terminal one. No I/O."""

from collections.abc import Iterator

from squib.client import retry
from squib.client.errors import BrokenStream, ServerUnreachable
from squib.client.sse import Decoder, FrameTooLarge
from squib.contracts import codec
from squib.contracts.errors import InvalidRequest, SquibError
from squib.contracts.event import Event
from squib.contracts.task import Task, TaskState

#: The event types after which nothing follows.
TERMINAL = frozenset(state.event.value for state in TaskState if state.terminal)
#: A connection that lasted so many seconds was a good one: its loss starts a new count of attempts.
GOOD_SECONDS = 5.0


class Feed:
    """Where a reader stands. `after` is the last event that it has."""

    def __init__(self, after: int = 0, *, attempts: int = 10) -> None:
        self.after = after
        self._ended = False
        self._attempts = attempts
        self._failures = 0
        self._since = 0.0
        self._heard = False
        self._decoder = Decoder()

    def connected(self, now: float) -> None:
        """Begin a connection at `now`, monotonic seconds; what an earlier one left half-sent is forgotten."""
        self._since, self._heard = now, False
        self._decoder = Decoder()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take bytes of the answer and yield the events that are new. Raises BrokenStream."""
        self._heard = True
        try:
            for frame in self._decoder.feed(chunk):
                event = codec.loads(Event, frame.data, lenient=True)
                if event.seq <= self.after:
                    continue
                if event.seq != self.after + 1:
                    raise BrokenStream(f"event {event.seq} came after event {self.after}")
                self.after, self._failures = event.seq, 0
                self._ended = event.type in TERMINAL
                yield event
        except (FrameTooLarge, InvalidRequest) as error:
            raise BrokenStream(f"after event {self.after}: {error}") from error

    def ended(self) -> bool:
        """Whether the terminal event has come."""
        return self._ended

    def lost(self, now: float, error: SquibError | None = None) -> float:
        """Seconds to wait before the next connection; raises where too many in a row brought nothing."""
        if self._heard and now - self._since >= GOOD_SECONDS:
            self._failures = 0
        self._failures += 1
        if self._failures >= self._attempts:
            raise error or ServerUnreachable(f"the stream of events ends again and again after event {self.after}")
        return retry.delay(self._failures)

    def over(self, task: Task) -> bool:
        """Whether nothing is left to read: the reader had asked for what comes after the terminal event."""
        return task.state.terminal and self.after >= task.last_seq
