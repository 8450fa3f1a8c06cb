"""What goes to the terminal. Text that came from elsewhere passes `clean`: it could hold escape sequences."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from squib.contracts import codec

# C0 without tab and newline, DEL, C1, and the marks that reorder or hide text
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f\ufeff\ud800-\udfff]")
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def clean(text: str, *, lines: bool = True) -> str:
    """Text that can't do anything to a terminal; without `lines` it is one line."""
    text = _CONTROL.sub(lambda found: "" if found[0] == "\r" else "\ufffd", text)
    return text if lines else " ".join(text.split())


def colours() -> bool:
    """Whether standard output may carry colours: a terminal, and NO_COLOR not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, *styles: str) -> str:
    """Text with those styles where colours are wanted."""
    if not styles or not colours():
        return text
    return f"\x1b[{';'.join(_STYLES[style] for style in styles)}m{text}\x1b[0m"


def say(text: str = "") -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line on standard error: about the work, not its result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """A contract value, or plain JSON types, as one line of JSON; what `clean` takes out stands there escaped."""
    text = codec.dumps(value).decode("utf-8", "replace")
    say(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns, aligned; the last one as wide as it likes. The header is shown on a terminal only."""
    shown = [list(header), *map(list, rows)] if sys.stdout.isatty() else [list(row) for row in rows]
    widths = [max((len(row[column]) for row in shown), default=0) for column in range(len(header))]
    for number, row in enumerate(shown):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        line = "  ".join([*cells, row[-1]]).rstrip()
        say(styled(line, "dim") if number == 0 and sys.stdout.isatty() else line)
