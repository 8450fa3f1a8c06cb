"""The escape list as a page of the documentation. `python -m tests.conformance.escape.table` writes it anew."""

from pathlib import Path

import tests
from tests.conformance.escape.attempts.base import Attempt, Shown
from tests.conformance.escape.attempts.runner import MODULES

PAGE = Path(str(tests.__file__)).parent.parent / "docs" / "escapes.md"
_HEAD = """# The escape list

What is tried from inside a sandbox to get out of it, by `tests/conformance/escape`, on every driver that claims
isolation. All of it must fail. [security.md](security.md) says what stands in the way.

Each attempt is harmless where it succeeds: it opens without writing, calls with arguments that are refused after the
caller was judged, and aims at baits that the test has laid out. The last column says where the same attempt is seen
to succeed, which shows that it is a real one: as an ordinary **user** where nothing isolates (the driver `process`),
as **root** in namespaces of its own, or nowhere, where no harmless success can be had on a sound kernel.

This page is made from the attempts themselves; `python -m tests.conformance.escape.table` writes it anew.
"""
_TAIL = """
## With somebody outside to watch

`test_levers.py` sends the gateway two dozen requests that would like to reach the host's own ports (absolute forms,
CONNECT, sly paths, foreign hosts, contradicting lengths, requests within requests), holds hundreds of connections to
the guest, puts a link to a socket of the host's in the place of the guest's, and ends everybody in the machine, its
first process included. `test_forged.py` writes events in the host's name into the guest's ring, and lets events carry
sequences that would act on a terminal. `test_strangers.py` reads a machine's directory as another account of the
host's, while it runs and while it is on disk. `tests/conformance/drivers/test_network.py` scans from inside for what
really listens on the host. Paths through the guest's API, archives, racing links: `tests/conformance/guest/`; traps
in repositories: `tests/scheduler/test_hostile.py`.
"""


def _flow(prose: str) -> str:
    """Prose with one line a paragraph, as the other pages have it."""
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in prose.strip().split("\n\n")) + "\n"


def text() -> str:
    """The page."""
    parts = [_flow(_HEAD)]
    for module in MODULES:
        parts.append(f"\n## {(module.__doc__ or '').strip().rstrip('.')}\n")
        parts.append("| name | what is tried | why it matters | what the attacker wins by | seen to succeed |")
        parts.append("|---|---|---|---|---|")
        parts += [_row(attempt) for attempt in vars(module).values() if isinstance(attempt, Attempt)]
    return "\n".join(parts) + "\n\n" + _flow(_TAIL)


def _row(attempt: Attempt) -> str:
    shown = "" if attempt.shown is Shown.NOWHERE else attempt.shown.value
    cells = (attempt.id, attempt.tries, attempt.why, attempt.wins, shown)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(text())
