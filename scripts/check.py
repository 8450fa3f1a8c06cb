"""All checks but the tests: each step's name and time, the output of those that fail, and 1 if any did."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
MAX_LINES = 600
PROSE = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md", "SECURITY.md", "docs"]


def command(*argv: str) -> Callable[[], list[str]]:
    """Make a step that runs a program and complains with all that it printed where it fails."""

    def step() -> list[str]:
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        return [] if done.returncode == 0 else [done.stdout + done.stderr]

    return step


def sizes() -> list[str]:
    """No source file over MAX_LINES lines."""
    lines = {path: len(path.read_text().splitlines()) for path in sorted((ROOT / "src").rglob("*.py"))}
    return [f"{path.relative_to(ROOT)}: {n} lines, at most {MAX_LINES}" for path, n in lines.items() if n > MAX_LINES]


def locks() -> list[str]:
    """Every locked package has a hash, none an address; what runs is what was tested."""
    found = []
    pins: dict[str, dict[str, str]] = {}
    for name in ("run", "dev"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        if re.search(r"://|--(extra-)?index-url|--find-links", text):
            found.append(f"requirements/{name}.txt names an address")
        entries = re.split(r"\n(?=[A-Za-z0-9])", text.replace("\\\n", " "))
        found += [f"requirements/{name}.txt: no hash: {e[:60]}" for e in entries if "==" in e and "--hash=" not in e]
        pins[name] = dict(re.findall(r"^([a-z0-9._-]+(?:\[[a-z,]+\])?)==([^\s;]+)", text, re.MULTILINE))
    different = {name for name, version in pins["run"].items() if pins["dev"].get(name) != version}
    found += [f"{name}: requirements/run.txt and dev.txt differ" for name in sorted(different)]
    for path in [p for p in ROOT.glob("*/**/package-lock.json") if "node_modules" not in p.parts]:
        if "resolved" in path.read_text() or "://" in json.dumps(json.loads(path.read_text())):
            found.append(f"{path.relative_to(ROOT)} names an address")
    return found


def links() -> list[str]:
    """Every page of the prose is there, and every relative link in it leads to a file that is there."""
    absent = [f"{name} is missing" for name in PROSE if not (ROOT / name).exists()]
    return absent + [f"{page.relative_to(ROOT)}: {to}" for page, to in _links() if not (page.parent / to).exists()]


def _links() -> Iterator[tuple[Path, str]]:
    for name in PROSE:
        path = ROOT / name
        for page in sorted(path.rglob("*.md")) if path.is_dir() else [path] if path.exists() else []:
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
                if not re.match(r"[a-z]+:", target):
                    yield page, target


STEPS: dict[str, Callable[[], list[str]]] = {
    "ruff check": command(str(BIN / "ruff"), "check", "--quiet", "."),
    "ruff format": command(str(BIN / "ruff"), "format", "--check", "--quiet", "."),
    "import rules": command(str(BIN / "lint-imports"), "--no-logo"),
    "sizes": sizes,
    "locks": locks,
    "links": links,
    "generated files": command(sys.executable, "scripts/generate.py", "--check"),
    "mypy --strict": command(str(BIN / "mypy")),
}


def main() -> int:
    """Run every step, also after one has failed."""
    failed = 0
    for name, step in STEPS.items():
        started = time.monotonic()
        complaints = step()
        failed += bool(complaints)
        print(f"{'FAILED' if complaints else 'ok':7}{name} ({time.monotonic() - started:.1f} s)", flush=True)
        for complaint in complaints:
            print("  " + complaint.rstrip().replace("\n", "\n  "), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
