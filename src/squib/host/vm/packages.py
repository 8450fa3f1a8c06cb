"""Fetches Debian packages without installing them: apt finds and checks them in a state of its own, dpkg unpacks.

Nothing that is in a package runs here: no script of its maintainer's, no program of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import ImageError
from squib.host.images import sources
from squib.host.images.runner import Progress, ending_with_us, require, run

SUITE = "bookworm"
_ADVICE = "See whether the machine's apt sources answer (apt-get update)."


@dataclass(frozen=True, slots=True)
class Fetched:
    """A package's content, unpacked below `path`."""

    name: str
    version: str
    path: Path


class Apt:
    """An apt whose lists, cache and status are below `scratch`; its sources are the machine's own for SUITE."""

    def __init__(self, scratch: Path, named: Path | None):
        self._scratch = scratch
        for folder in ("parts", "lists/partial", "archives/partial"):
            (scratch / folder).mkdir(parents=True)
        (scratch / "status").touch()
        for path in sources.find(SUITE, named, scratch):
            (scratch / "parts" / Path(path).name).write_bytes(Path(path).read_bytes())

    async def update(self, progress: Progress) -> None:
        """Fetch the lists of packages. Raises ImageError."""
        require("apt-get", "dpkg-deb")
        await run(self._command("apt-get", "-q", "update"), progress, "apt-get update", advice=_ADVICE)

    async def dependency(self, package: str, pattern: str, progress: Progress) -> str:
        """The package that `package` depends on and whose name matches. Raises ImageError where there is none."""
        said = _Collected(progress)
        await run(
            self._command("apt-cache", "depends", package), said, f"apt-cache depends {package}", advice=_ADVICE
        )
        for line in said.lines:
            if (found := re.search(rf"Depends: ({pattern})$", line.strip())) is not None:
                return found[1]
        raise ImageError(f"{package} depends on no {pattern}", advice=_ADVICE)

    async def fetch(self, package: str, progress: Progress) -> Fetched:
        """Download, check and unpack the newest version of the package. Raises ImageError."""
        folder = self._scratch / "debs" / package
        folder.mkdir(parents=True)
        # apt checks what it has fetched against its signed lists; its own user could not write here.
        script = 'cd "$1" && shift && exec "$@"'
        download = self._command("apt-get", "-q", "download", package)
        await run(("sh", "-c", script, "sh", str(folder), *download), progress, f"fetching {package}", advice=_ADVICE)
        (archive,) = folder.glob("*.deb")
        target = self._scratch / "content" / package
        target.mkdir(parents=True)
        await run(
            ending_with_us("dpkg-deb", "--extract", str(archive), str(target)), progress, f"unpacking {package}"
        )
        version = archive.name.split("_")[1].replace("%3a", ":")
        archive.unlink()
        return Fetched(package, version, target)

    def _command(self, program: str, *arguments: str) -> list[str]:
        options = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": self._scratch / "parts",
            "Dir::State": self._scratch,
            "Dir::State::Lists": self._scratch / "lists",
            "Dir::State::Status": self._scratch / "status",
            "Dir::Cache": self._scratch,
            "Dir::Cache::Archives": self._scratch / "archives",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ending_with_us(program, *settings, *arguments)


class _Collected:
    """Keeps a program's lines, which are its answer, from whoever watches."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self.lines: Sequence[str] = ()

    def step(self, name: str, number: int, total: int) -> None:
        """Handed on."""
        self._progress.step(name, number, total)

    def line(self, text: str) -> None:
        """Kept."""
        self.lines = (*self.lines, text)
