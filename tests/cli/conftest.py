"""The command line against a real API over a real store, in this process."""

import asyncio
import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squib.cli.app import main
from tests.client.conftest import Backend, backend

__all__ = ["backend"]


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No server is known, and nothing of the user's own is read."""
    for name in ("SQUIB_URL", "SQUIB_TOKEN", "SQUIB_CONFIG", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SQUIB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def call(nowhere: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `squib` with these arguments."""

    def run(*arguments: str) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Done(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def squib(call: Callable[..., Done], backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The same, with a server, beside the event loop that serves it."""
    monkeypatch.setenv("SQUIB_URL", backend.url)
    monkeypatch.setenv("SQUIB_TOKEN", backend.token)

    async def run(*arguments: str) -> Done:
        return await asyncio.to_thread(call, *arguments)

    return run


@dataclass(frozen=True)
class Repo:
    """A user's repository."""

    path: Path

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def state(self) -> str:
        """Everything that must not change when squib only looks: files, index, refs, configuration, objects."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file() and not path.is_symlink())
        return "\n".join(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)

    def commit(self, message: str, **files: str) -> str:
        for name, text in files.items():
            (self.path / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with two commits and a clean work tree, on branch main."""
    path = tmp_path / "repo"
    path.mkdir()
    made = Repo(path)
    made.git("init", "-q", "-b", "main")
    made.git("config", "user.name", "A User")
    made.git("config", "user.email", "user@localhost")
    made.commit("one", a="1\n", b="1\n")
    made.commit("two", a="2\n")
    return made
