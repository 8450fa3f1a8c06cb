"""Following a task in the terminal: lines as they come, with a status below them where it is a terminal."""

import contextlib
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from squib.cli import narrate
from squib.cli.output import note, say, say_json
from squib.client import Client
from squib.contracts.errors import Conflict
from squib.contracts.event import Event, EventType

_WIDTH = 13


class Printer:
    """Plain lines, for pipes and files; a context manager, because others need one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back what was changed: nothing here."""

    def show(self, event: Event) -> None:
        """Print the event's line, if it has one."""
        if line := narrate.line(event):
            text = line.text.replace("\n", "\n" + " " * (_WIDTH + 10))
            say(f"{narrate.stamp(event)}  {line.label.ljust(_WIDTH)}{text}".rstrip())


class Json(Printer):
    """One event a line, as JSON."""

    def show(self, event: Event) -> None:
        """Print the event whole."""
        say_json(event)


class Live(Printer):
    """Coloured lines, and below them what goes on and for how long."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()
        self._doing = "waiting"
        self._status = self._console.status(self, spinner="dots")

    def __rich__(self) -> Text:
        return Text(f"{self._doing}, {time.monotonic() - self._started:.0f} s")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def show(self, event: Event) -> None:
        """Print the event's line above the status."""
        if event.type.startswith("task."):
            self._doing = event.type.removeprefix("task.").replace("_", " ")
        line = narrate.line(event)
        if line is None:
            return
        style = " ".join(line.styles)
        first, *rest = line.text.split("\n")
        text = Text.assemble((narrate.stamp(event), "dim"), "  ", (line.label.ljust(_WIDTH), style or "bold"), first)
        for more in rest:
            text.append("\n" + " " * (_WIDTH + 10) + more, style=style if not line.label else "")
        self._console.print(text)


def printer(*, as_json: bool = False) -> Printer:
    """What suits standard output."""
    if as_json:
        return Json()
    return Live() if sys.stdout.isatty() else Printer()


def idle(event: Event) -> bool:
    """Whether a turn is over and the sandbox is kept."""
    return event.type == EventType.TASK_IDLE


def follow(
    client: Client,
    task_id: str,
    show: Callable[[Event], None],
    *,
    after: int = 0,
    until: Callable[[Event], bool] = lambda _: False,
    cancel: bool = False,
) -> None:
    """Show the events after that number to the terminal one, or the first that `until` accepts.

    With `cancel`, the first Ctrl-C asks the server to cancel the task and goes on until it has ended; the second
    raises KeyboardInterrupt, as the first does without it.
    """
    last, asked = after, not cancel
    while True:
        try:
            for event in client.tasks.events(task_id, after=last):
                last = event.seq
                show(event)
                if until(event):
                    return
            return
        except KeyboardInterrupt:
            if asked:
                raise
            asked = True
            note(f"squib: cancelling {task_id}; Ctrl-C again leaves it to the server")
            with contextlib.suppress(Conflict):
                client.tasks.cancel(task_id, "Ctrl-C")
