"""What git ignores in a sandbox by default: what tools leave behind is no work of an agent's.

Git's own file of the user, so that the agent's `git status` and squib's saves agree; a repository overrules it by
its .gitignore (`!name`), and a file that is tracked stays tracked.
"""

import contextlib
from pathlib import Path

PATTERNS = (
    *("__pycache__/", "*.py[cod]", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", ".venv/"),
    *("node_modules/", ".DS_Store"),
)


def provide(home: str) -> None:
    """Write `~/.config/git/ignore` where there is none; a home that can't be written goes without."""
    path = Path(home, ".config/git/ignore")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write("".join(f"{pattern}\n" for pattern in PATTERNS))
