"""The apt sources that a base system is made from: the machine's own, as far as they serve the suite."""

import re
from collections.abc import Iterator
from pathlib import Path

from squib.contracts.errors import ImageError

ETC = Path("/etc/apt")
_ADVICE = (
    "Add the suite to the machine's apt sources, or name a file of sources with SQUIB_IMAGES__APT_SOURCES"
    " (one-line or deb822, with Signed-By naming the keyring)."
)


def find(suite: str, named: Path | None, scratch: Path, etc: Path = ETC) -> list[str]:
    """What mmdebstrap is to read: the named file, or files in `scratch` with those entries that serve the suite.

    Raises ImageError where there are none.
    """
    if named is not None:
        if not named.is_file():
            raise ImageError(f"SQUIB_IMAGES__APT_SOURCES names {named}, which is no file", advice=_ADVICE)
        return [str(named)]
    stanzas = [text for path in sorted(etc.glob("sources.list.d/*.sources")) for text in _stanzas(path, suite)]
    lines = [text for path in _lists(etc) for text in _lines(path, suite)]
    if not stanzas and not lines:
        raise ImageError(f"the machine's apt sources do not serve {suite}", advice=_ADVICE)
    made = []
    for name, entries, between in (("base.sources", stanzas, "\n\n"), ("base.list", lines, "\n")):
        if entries:
            (scratch / name).write_text(between.join(entries) + "\n")
            made.append(str(scratch / name))
    return made


def _lists(etc: Path) -> Iterator[Path]:
    if (etc / "sources.list").is_file():
        yield etc / "sources.list"
    yield from sorted(etc.glob("sources.list.d/*.list"))


def _serves(suites: list[str], suite: str) -> bool:
    return any(s == suite or s.startswith((suite + "-", suite + "/")) for s in suites)


def _stanzas(path: Path, suite: str) -> Iterator[str]:
    """Those of a deb822 file (sources.list(5)) that serve binaries of the suite and are not disabled."""
    for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        text = "\n".join(line for line in stanza.strip().splitlines() if not line.startswith("#"))
        fields = {name.lower(): value.split() for name, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", text, re.M)}
        enabled = fields.get("enabled", ["yes"])[:1] != ["no"]
        if enabled and "deb" in fields.get("types", []) and _serves(fields.get("suites", []), suite):
            yield text


def _lines(path: Path, suite: str) -> Iterator[str]:
    """Those of a one-line file that serve binaries of the suite."""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(\S+)", line)
        if found and _serves([found[1]], suite):
            yield line.strip()
