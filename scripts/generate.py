"""Write docs/openapi.json, docs/cli.md and docs/settings.md from the code; `--check` only says which are stale."""

import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
FILES = ("openapi.json", "cli.md", "settings.md")


def write(directory: Path) -> None:
    """Write all three into `directory`. Raises CalledProcessError, after what the generator has printed."""
    for arguments in (["squib.api.openapi", str(directory / FILES[0])], ["squib.cli.reference", str(directory)]):
        subprocess.run([sys.executable, "-m", *arguments], check=True, stdout=subprocess.DEVNULL)


def stale() -> list[str]:
    """The files in docs/ that are not as the code would have them."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        write(fresh)
        return [
            name
            for name in FILES
            if not (DOCS / name).exists() or (DOCS / name).read_bytes() != (fresh / name).read_bytes()
        ]


def main() -> int:
    """Generate, or check and exit 1 where a file is stale."""
    if sys.argv[1:] != ["--check"]:
        write(DOCS)
        return 0
    found = stale()
    for name in found:
        print(f"docs/{name} is stale: make generate")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
