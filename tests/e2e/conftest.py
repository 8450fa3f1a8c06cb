"""squib as a user has it: the real command in subprocesses, a state directory of its own, real sandboxes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Repo
from tests.needs import IMAGES

SQUIB = str(Path(sys.executable).parent / "squib")


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Instance:
    """One state directory, and the `squib up` that may be running on it."""

    state: Path
    options: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)
    port: str = "0"
    process: subprocess.Popen[str] | None = None
    ready: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **kept,
            "SQUIB_STATE_DIR": str(self.state),
            "SQUIB_LOG_LEVEL": "warning",
            "TERM": "xterm",
            **self.extra,
        }

    def start(self) -> None:
        """Start `squib up` and return once it is ready."""
        argv = [SQUIB, "up", "--port", self.port, "--json", *self.options]
        log = (self.state.parent / "up.log").open("a")
        with log:
            self.process = subprocess.Popen(argv, env=self.env, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        assert line, f"squib up did not start: {self.log()}"
        self.ready = json.loads(line)

    def show_images(self) -> None:
        """Let sandboxes be made of the images that set-up has built."""
        self.state.mkdir(mode=0o711)
        for name in ("images", "kernel"):
            if (IMAGES / name).is_dir():
                (self.state / name).symlink_to(IMAGES / name)

    def end(self, number: int = signal.SIGINT) -> int:
        """Send the signal and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def log(self) -> str:
        return (self.state.parent / "up.log").read_text()

    def __call__(self, *arguments: str, cwd: Path | None = None, stdin: str = "", code: int | None = 0) -> Done:
        """Run a command of the same user; its status must be `code` unless that is None."""
        done = self.raw(*arguments, cwd=cwd, stdin=stdin.encode())
        result = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert code is None or result.code == code, f"{arguments}: {result}\n{self.log()}"
        return result

    def raw(self, *arguments: str, cwd: Path | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [SQUIB, *arguments],
            env=self.env,
            cwd=cwd or "/",
            input=stdin,
            capture_output=True,
            timeout=90,
            check=False,
        )

    def open(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [SQUIB, *arguments], env=self.env, cwd=cwd or "/", stdout=pipe, stderr=pipe, text=True, bufsize=1
        )


@contextmanager
def instance(*options: str, **extra: str) -> Iterator[Instance]:
    """A state directory with a short name, and the end of what a failed test left running."""
    top = Path(tempfile.mkdtemp(prefix="sqe-", dir="/tmp"))
    top.chmod(0o711)
    made = Instance(top / "state", options, extra)
    try:
        yield made
    finally:
        if made.process is not None:
            made.process.send_signal(signal.SIGINT)
            try:
                made.process.wait(20)
            except subprocess.TimeoutExpired:
                made.process.kill()
                made.process.wait()
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="module")
def squib() -> Iterator[Instance]:
    """A running squib with bubblewrap, shared by a module's tests."""
    with instance("--sandbox", "bubblewrap", SQUIB_SANDBOX__POOL_SIZE="1") as made:
        made.start()
        yield made


def wait_for(stream: Any, words: str, seconds: float = 30.0) -> str:
    """Read lines until one holds `words`; all that was read. Fails when the stream ends, or takes too long."""
    seen: list[str] = []
    found = threading.Event()

    def read() -> None:
        for line in stream:
            seen.append(line)
            if words in line:
                found.set()
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(seconds)
    assert found.is_set(), f"{words!r} never came: {seen}"
    return "".join(seen)


def make_repo(path: Path) -> Repo:
    """A user's repository: a small Python project with a test, and uncommitted work."""
    path.mkdir(parents=True)
    made = Repo(path)
    made.git("init", "-q", "-b", "main")
    made.git("config", "user.name", "A User")
    made.git("config", "user.email", "user@localhost")
    made.commit("a program", **{"greet.py": 'def greet(name):\n    return f"Hello, {name}"\n', "README": "hello\n"})
    (path / "README").write_text("hello, changed\n")
    (path / "note").write_text("not yet added\n")
    (path / ".gitignore").write_text("secret\n")
    (path / "secret").write_text("key\n")
    return made


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "project")
