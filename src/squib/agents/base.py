"""What an agent's adapter is: how its program is started, and how its output is read. Pure: no I/O."""

from dataclasses import dataclass, field
from typing import Protocol

from squib.contracts.event import Draft


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt for the agent, and where it runs."""

    prompt: str
    workspace: str  # absolute
    home: str  # absolute, writable, kept between turns
    model: str | None = None
    session_id: str | None = None  # resume
    gateway_url: str | None = None  # http://127.0.0.1:PORT; the model API is below it
    options: dict[str, str] = field(default_factory=dict)  # the agent's entry in GuestConfig.agents


@dataclass(frozen=True, slots=True)
class Command:
    """What to start. `env` is added to the guest's clean environment; `files` are written first, below home."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    files: dict[str, str] = field(default_factory=dict)
    grace_after_result: float = 5.0  # seconds from the terminal line to the exit, then it is ended


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run went, by the agent's own rules (exit status, terminal line and its flags)."""

    good: bool
    reason: str | None = None  # for a person to act on, where it is not good
    result: str | None = None
    session_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    turns: int = 0


class Parser(Protocol):
    """Reads one run's standard output, line by line. Never raises for a line that it does not know."""

    finished: bool  # the terminal line has been seen

    def feed(self, line: bytes) -> list[Draft]:
        """Take a line without its newline; an unknown one becomes an `agent.log` that keeps it raw."""

    def finish(self, exit_code: int | None, stderr_tail: str) -> Outcome:
        """Judge the run. `exit_code` is negative for a signal; `stderr_tail` its last 4,000 characters."""


class Agent(Protocol):
    """One file an agent; one line in `agents/registry.py`."""

    name: str
    program: str  # the executable that must be on the sandbox's PATH; "" where the guest brings it
    install: str  # how a person gets that program onto the machine
    provider: str | None  # the gateway route that it needs: "anthropic", "openai", …; None: no model
    guest_options: tuple[str, ...]  # keys of its settings that go into GuestConfig.agents

    def command(self, turn: Turn) -> Command:
        """Say what to start for this turn."""

    def parser(self) -> Parser:
        """A new parser for one run."""
