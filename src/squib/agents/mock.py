"""The mock agent's adapter and parser. It needs no key and no model: the whole loop can be seen with it.

Its program (`mock_program`, which lists the directives that a prompt may hold) comes with the guest.
"""

import sys

from squib.agents import lines
from squib.agents.base import Command, Outcome, Turn
from squib.contracts.event import Draft, EventType

_EVENTS = {
    "message": EventType.AGENT_MESSAGE,
    "tool": EventType.AGENT_TOOL,
    "output": EventType.AGENT_OUTPUT,
    "usage": EventType.AGENT_USAGE,
}


class Mock:
    """See agents.base.Agent."""

    name = "mock"
    program = ""
    install = "It comes with squib."
    provider = None
    guest_options: tuple[str, ...] = ()

    def command(self, turn: Turn) -> Command:
        """The guest's own archive runs the program; without one (a bare `squib` checkout), Python's -m does."""
        python = turn.options.get("python", sys.executable)
        guest = turn.options.get("guest")
        argv = [python, guest, "mock-agent"] if guest else [python, "-m", "squib.agents.mock_program"]
        if turn.session_id:
            argv += ["--resume", turn.session_id]
        return Command(argv, env={"SQUIB_MOCK_HOME": turn.home}, stdin=turn.prompt.encode("utf-8", "replace"))

    def parser(self) -> "MockParser":
        """A new parser for one run."""
        return MockParser()


class MockParser:
    """Reads the program's lines: objects with `type`, and for an event the event's own data beside it."""

    def __init__(self) -> None:
        self.finished = False
        self._session: str | None = None
        self._result: dict[str, object] = {}
        self._usage: dict[str, object] = {}

    def feed(self, line: bytes) -> list[Draft]:
        """See agents.base.Parser."""
        message = lines.document(line)
        kind = message.pop("type", None) if message is not None else None
        if message is None or not isinstance(kind, str):
            return [lines.raw(line)] if line.strip() else []
        if kind == "start":
            self._session = lines.text(message.get("session_id")) or None
            return []
        if kind == "result":
            self.finished, self._result = True, message
            return []
        if kind not in _EVENTS:
            return [lines.raw(line)]
        if kind == "usage":
            self._usage = message
        return [lines.draft(_EVENTS[kind], message, len(line))]

    def finish(self, exit_code: int | None, stderr_tail: str) -> Outcome:
        """See agents.base.Parser."""
        good = exit_code == 0 and self.finished and not self._result.get("is_error")
        said = lines.text(self._result.get("result"))
        if good:
            reason = None
        elif self.finished:
            reason = said or "The mock agent says that it failed."
        else:
            tail = f": {stderr_tail.strip()[-500:]}" if stderr_tail.strip() else ""
            reason = f"The mock agent ended without a result (exit status {exit_code}){tail}."
        return Outcome(
            good=good,
            reason=reason,
            result=said if good else None,
            session_id=self._session,
            input_tokens=lines.count(self._usage.get("input_tokens")),
            output_tokens=lines.count(self._usage.get("output_tokens")),
            turns=1 if self.finished else 0,
        )
