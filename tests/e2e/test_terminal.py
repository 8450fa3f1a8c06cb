"""What a person sees on a terminal, and Ctrl-C as the terminal sends it: to the whole foreground group."""

import os
import pty
import signal
import threading
from pathlib import Path

import pytest

from tests import leaks
from tests.e2e.conftest import SQUIB, instance

pytestmark = pytest.mark.needs("bwrap", "git")


class Screen:
    """A command on a controlling terminal of its own."""

    def __init__(self, env: dict[str, str], *arguments: str):
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(SQUIB, [SQUIB, *arguments], env)
        self.seen = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 65_536)
            except OSError:  # the last program on it has ended
                return
            with self._news:
                self.seen += data.decode("utf-8", "replace")
                self._news.notify_all()

    def wait_for(self, words: str, seconds: float = 30.0) -> None:
        with self._news:
            assert self._news.wait_for(lambda: words in self.seen, seconds), self.seen

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """The exit status; negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        self._reader.join(10)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


async def test_the_demonstration_on_a_terminal_ends_with_ctrl_c_and_leaves_nothing():
    with instance() as squib:
        screen = Screen(squib.env, "up", "--demo", "--port", "0")
        screen.wait_for("squib stays up")
        assert "\x1b[32m+# Task\x1b[0m" in screen.seen
        assert "/?token=sqb_" in screen.seen
        screen.type("\x03")
        assert screen.end() == 0, screen.seen
        assert screen.seen.endswith("squib: stopping; again to stop at once\r\n")
        assert "Traceback" not in screen.seen
        assert await leaks.gone(str(squib.state)) == []


def test_a_run_on_a_terminal_is_coloured_unless_asked_not_to_and_ctrl_c_cancels():
    with instance("--sandbox", "bubblewrap") as squib:
        squib.start()
        plain = Screen({**squib.env, "NO_COLOR": "1", "TERM": "dumb"}, "run", "hello")
        assert plain.end() == 0
        assert "\x1b[" not in plain.seen.replace("\x1b[?25", "")
        screen = Screen(squib.env, "run", "mock:sleep=60")
        screen.wait_for("\x1b[1magent")
        screen.type("\x03")
        assert screen.end() == 1
        assert "\x1b[33mcancelled" in screen.seen


def test_a_second_ctrl_c_ends_at_once_and_the_next_start_tidies_up():
    with instance("--sandbox", "bubblewrap") as squib:
        squib.start()
        assert squib.process is not None
        running = squib.open("run", "mock:sleep=60", "--detach")
        running.communicate(timeout=30)
        os.kill(squib.process.pid, signal.SIGSTOP)  # both arrive before it can do anything
        os.kill(squib.process.pid, signal.SIGINT)
        os.kill(squib.process.pid, signal.SIGTERM)
        os.kill(squib.process.pid, signal.SIGCONT)
        assert squib.process.wait(30) == 130
        squib.process = None
        squib.start()
        squib("cancel", squib("list", "--json").json["id"])
        assert squib.end() == 0
        assert leaks.find(str(squib.state)) == []
        assert list(Path(squib.state / "machines").iterdir()) == []
