"""How far a build is: a bar on a terminal, a line a step in a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Column

from squib.cli.output import clean, note
from squib.host.images import Progress


@contextmanager
def watching() -> Iterator[Progress]:
    """A bar with the step's name and its last line of output; without a terminal, a line for each step."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    last = TextColumn("{task.fields[last]}", style="dim", markup=False, table_column=Column(ratio=1, no_wrap=True))
    name = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), name, BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), last)
    with Bar(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        yield _Watcher(bar)


class _Watcher:
    """Moves the bar."""

    def __init__(self, bar: Bar):
        self._bar = bar
        self._task = bar.add_task("begins", total=None, last="")

    def step(self, name: str, number: int, total: int) -> None:
        """A step begins."""
        self._bar.update(self._task, description=name, completed=number - 1, total=total, last="")

    def line(self, text: str) -> None:
        """A line of its output."""
        self._bar.update(self._task, last=clean(text, lines=False))


class _Lines:
    """For logs."""

    def step(self, name: str, number: int, total: int) -> None:
        """A step begins."""
        note(f"squib: {number}/{total} {name}")

    def line(self, text: str) -> None:
        """The steps alone are told; an error brings its last lines with it."""


def bytes_(size: int) -> str:
    """A size for a person."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
