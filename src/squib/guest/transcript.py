"""A run's transcript: the agent's output, line by line, through its parser into events."""

import asyncio
import logging
from collections.abc import Callable

from squib.agents.base import Parser
from squib.contracts.event import Draft, EventType, Source
from squib.guest.bound import Lines
from squib.guest.command import Command
from squib.guest.events import EventLog

log = logging.getLogger("squib.guest")
_TAIL_CHARS = 4000


class Transcript:
    """Two sinks for a command's streams. While a reader of events is far behind, the agent is not read.

    `finished` is done once the parser has seen the terminal line; `overflow` is called, once, when both streams
    together gave more than `limit` bytes, and what comes then is dropped.
    """

    def __init__(self, events: EventLog, parser: Parser, limit: int, overflow: Callable[[], None]):
        self._events, self._left, self._overflow = events, limit, overflow
        self._out, self._err = Lines(self._line), Lines(self._error_line)
        self._tail = ""
        self._paused = False
        self.parser = parser
        self.process: Command | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def stderr_tail(self) -> str:
        """The last 4,000 characters of standard error."""
        return self._tail

    def stdout(self, data: bytes) -> None:
        """Take standard output."""
        self._take(self._out, data)

    def stderr(self, data: bytes) -> None:
        """Take standard error."""
        self._tail = (self._tail + data.decode("utf-8", "replace"))[-_TAIL_CHARS:]
        self._take(self._err, data)

    def finish(self) -> None:
        """Both streams are over: take their last, unended lines."""
        self._out.finish()
        self._err.finish()
        self._events.flush()

    def _take(self, lines: Lines, data: bytes) -> None:
        lines.feed(self._within_bounds(data))
        self._events.flush()
        if self.process is not None and not self._paused and self._events.behind:
            self._paused = True
            self.process.pause()
            self._events.when_relieved(self._resume)

    def _within_bounds(self, data: bytes) -> bytes:
        if len(data) > self._left >= 0:
            data, self._left = data[: self._left], -1
            self._overflow()
            return data
        self._left -= len(data) if self._left >= 0 else 0
        return data if self._left >= 0 else b""

    def _resume(self) -> None:
        self._paused = False
        if self.process is not None:
            self.process.resume()

    def _line(self, line: bytes, size: int) -> None:
        if size > len(line):
            self._log("stdout", line, size)
            return
        try:
            for draft in self.parser.feed(line):
                self._events.emit(draft)
        except Exception:
            log.exception("the agent's parser failed at a line")
            self._log("stdout", line, size)
        if self.parser.finished and not self.finished.done():
            self.finished.set_result(None)

    def _error_line(self, line: bytes, size: int) -> None:
        if line:
            self._log("stderr", line, size)

    def _log(self, stream: str, line: bytes, size: int) -> None:
        data = {"stream": stream, "text": line.decode("utf-8", "replace")}
        more = {"truncated": True, "bytes": size} if size > len(line) else {}
        self._events.emit(Draft(EventType.AGENT_LOG, {**data, **more}, Source.AGENT))
