"""Processes: started clean, reaped without loss, and ended with all that came of them."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from squib.contracts.errors import InvalidRequest
from squib.contracts.guest import GuestConfig
from squib.guest import environment, tree
from squib.guest.capture import capture
from squib.guest.children import Children, find_program

ENV = {"PATH": "/usr/bin:/bin", tree.MARK: "test"}


@pytest.fixture
def cwd(tmp_path: Path) -> int:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -TERM $$", -15)]
)
async def test_status(children: Children, cwd: int, command: str, code: int) -> None:
    child = children.spawn(["/bin/sh", "-c", command], env=ENV, cwd=cwd)
    assert await child.status == code
    assert not child.alive and child.pid not in children.pids


async def test_many_exits_at_once(children: Children, cwd: int) -> None:
    started = [children.spawn(["/bin/sh", "-c", f"exit {n}"], env=ENV, cwd=cwd) for n in range(50)]
    assert await asyncio.gather(*(c.status for c in started)) == list(range(50))


async def test_signals_are_as_after_a_boot(children: Children, cwd: int) -> None:
    """Python ignores SIGPIPE; a child must not, or `yes | head` would never end."""
    _, out, _ = await capture(children, ["cat", "/proc/self/status"], env=ENV, cwd=cwd, seconds=10, limit=9999)
    shown = dict(line.split(":\t") for line in out.text.splitlines())
    assert int(shown["SigBlk"], 16) == 0
    assert int(shown["SigIgn"], 16) & ~0x1_8000_0000 == 0  # glibc's own two do no harm


async def test_no_descriptor_is_inherited(children: Children, cwd: int) -> None:
    own = {fd for fd in range(3, 4096) if _inheritable(fd)}  # pytest's own parents may have left some
    with open("/etc/passwd", "rb"):
        _, out, _ = await capture(children, ["ls", "/proc/self/fd"], env=ENV, cwd=cwd, seconds=10, limit=999)
    assert len({int(fd) for fd in out.text.split()} - own - {0, 1, 2}) == 1  # that of the listing itself


def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def _descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


async def test_what_cannot_be_started_leaves_nothing(children: Children, cwd: int, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    before = _descriptors()
    for program in ("nope", str(tmp_path / "text"), str(tmp_path)):
        with pytest.raises(OSError):
            await capture(children, [program], env=ENV, cwd=cwd, seconds=10, limit=999, stdin=b"x")
    assert _descriptors() == before
    assert children.pids == set()


def test_find_program(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tool").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "tool").write_text("#!/bin/sh")
    path = f"{tmp_path}/a:relative::{tmp_path}/b"
    with pytest.raises(FileNotFoundError):
        find_program("tool", path)
    (tmp_path / "b" / "tool").chmod(0o755)
    assert find_program("tool", path) == f"{tmp_path}/b/tool"
    assert find_program("./x", path) == "./x"


async def test_a_tree_is_ended(children: Children, cwd: int) -> None:
    script = "trap '' TERM; (trap '' TERM; echo up; sleep 400) & setsid sleep 400 & wait"
    read, write = os.pipe()
    child = children.spawn(["/bin/sh", "-c", script], env=ENV, cwd=cwd, stdout=write)
    os.close(write)
    assert await asyncio.to_thread(os.read, read, 10) == b"up\n"
    found = tree.Tree("test", child.pid)
    assert len(found.members()) >= 2
    await tree.end(found, 0.1)
    assert found.members() == []
    assert await child.status == -signal.SIGKILL
    os.close(read)


async def test_a_tree_spares_its_siblings(children: Children, cwd: int) -> None:
    others = {p.pid for p in tree.table().values() if p.parent == os.getpid()}  # servers of other tests
    first = children.spawn(["/bin/sh", "-c", "sleep 400"], env={**ENV, tree.MARK: "one"}, cwd=cwd)
    second = children.spawn(["/bin/sh", "-c", "sleep 400"], env={**ENV, tree.MARK: "two"}, cwd=cwd)
    await tree.end(
        tree.Tree("one", first.pid, owns_unmarked_orphans=True, spared=lambda: others | children.pids), 1.0
    )
    assert await first.status == -signal.SIGTERM
    assert second.alive
    await tree.end(tree.Tree("two", second.pid), 1.0)
    assert await second.status == -signal.SIGTERM


async def test_output_after_the_exit_is_not_waited_for(children: Children, cwd: int) -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    ended, out, _ = await capture(
        children, ["sh", "-c", "(sleep 400 &) ; echo done"], env=ENV, cwd=cwd, seconds=10, limit=999
    )
    assert (ended.code, out.text) == (0, "done\n")
    for process in tree.table().values():
        with contextlib.suppress(OSError):
            if b"sleep\x00400" in Path(f"/proc/{process.pid}/cmdline").read_bytes():
                os.kill(process.pid, signal.SIGKILL)
    os.close(read)
    os.close(write)


def test_environment_is_made_from_nothing(config: GuestConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    made = environment.build(config, "run-1", {"A": "1", "HOME": "/elsewhere"}, {"A": "2"})
    assert "SECRET_KEY" not in made
    assert (made["A"], made["HOME"], made["PATH"], made[tree.MARK]) == ("2", "/elsewhere", config.path, "run-1")


@pytest.mark.parametrize("added", [{"": "x"}, {"A=B": "x"}, {"A": "\0"}, {"A\0": "x"}])
def test_environment_refuses(config: GuestConfig, added: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        environment.build(config, "run-1", added)
