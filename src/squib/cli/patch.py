"""A patch on the terminal: its colours and how much it changes. Pure but for the colours' switch."""

import re
from dataclasses import dataclass, replace

from squib.cli.output import clean, styled

_NAME = re.compile(rb'diff --git (?:"?a/.*?"?) (?:"?b/(.*?)"?)$')
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


@dataclass(frozen=True, slots=True)
class Change:
    """One file of a patch."""

    path: str
    added: int
    removed: int
    binary: bool = False


def changes(patch: bytes) -> list[Change]:
    """What a git patch changes, file by file, in its order."""
    found: list[Change] = []
    old = new = 0  # lines of the hunk still to come: within it, a line that looks like a header is text
    for line in patch.split(b"\n"):
        if found and (old > 0 or new > 0):
            kind, last = line[:1], found[-1]
            added, removed = kind == b"+", kind == b"-"
            if kind != b"\\":  # "\\ No newline at end of file" is no line of the file
                found[-1] = replace(last, added=last.added + added, removed=last.removed + removed)
                old, new = old - (not added), new - (not removed)
        elif header := _NAME.match(line):
            found.append(Change(header[1].decode("utf-8", "replace"), 0, 0))
        elif hunk := _HUNK.match(line):
            old, new = (1 if size is None else int(size) for size in hunk.groups())
        elif found and line.startswith((b"GIT binary patch", b"Binary files ")):
            found[-1] = replace(found[-1], binary=True)
    return found


def stat(patch: bytes) -> list[str]:
    """The lines of a diffstat."""
    files = changes(patch)
    if not files:
        return ["no change"]
    width = max(len(clean(change.path, lines=False)) for change in files)
    lines = []
    for change in files:
        many = "binary" if change.binary else f"+{change.added} -{change.removed}"
        lines.append(f"{clean(change.path, lines=False).ljust(width)}  {many}")
    plural = "" if len(files) == 1 else "s"
    added, removed = sum(c.added for c in files), sum(c.removed for c in files)
    return [*lines, f"{len(files)} file{plural} changed, {added} insertions, {removed} deletions"]


def coloured(patch: bytes) -> str:
    """The patch for a terminal, cleaned of what could act on it; of binary files only their names."""
    shown, binary = [], False
    for line in clean(patch.decode("utf-8", "replace")).split("\n"):
        binary = not line.startswith("diff --git ") and (binary or line == "GIT binary patch")
        if not binary or line == "GIT binary patch":
            shown.append(_line(line))
    return "\n".join(shown)


def _line(line: str) -> str:
    if line.startswith(
        ("diff --git", "index ", "--- ", "+++ ", "new file", "deleted file", "rename ", "similarity ")
    ):
        return styled(line, "bold")
    if line.startswith("@@"):
        return styled(line, "cyan")
    if line.startswith("+"):
        return styled(line, "green")
    return styled(line, "red") if line.startswith("-") else line
