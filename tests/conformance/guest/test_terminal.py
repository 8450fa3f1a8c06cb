"""Commands: buffered and streamed, bounded, ended with their whole tree."""

import asyncio
import hashlib
import os
import time
from contextlib import aclosing
from typing import Any

import pytest

from squib.contracts.errors import InvalidRequest, NotFound, PathEscapes
from squib.contracts.guest import TerminalRequest, TerminalResult
from tests.conformance.guest.conftest import Guest, Place


async def _streamed(guest: Guest, command: str, **more: Any) -> tuple[bytes, bytes, TerminalResult]:
    parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    async for name, piece in guest.link.terminal_stream(TerminalRequest(command, **more)):
        if isinstance(piece, TerminalResult):
            return b"".join(parts["stdout"]), b"".join(parts["stderr"]), piece
        parts[name].append(piece)
    raise AssertionError("no exit")


async def test_a_command(guest: Guest) -> None:
    result = await guest.sh("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.signal, result.timed_out) == (3, None, False)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert result.duration_ms > 0


async def test_words_are_not_parsed(guest: Guest) -> None:
    result = await guest.link.terminal(TerminalRequest(["printf", "%s|", "a b", "$HOME", "*"]))
    assert result.stdout == "a b|$HOME|*|"


async def test_a_signal(guest: Guest) -> None:
    result = await guest.sh("kill -9 $$")
    assert (result.exit_code, result.signal) == (None, 9)


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc", 126), ("/etc/passwd", 126)])
async def test_what_cannot_be_started(guest: Guest, command: str, code: int) -> None:
    for words in ([command], command):
        result = await guest.link.terminal(TerminalRequest(words))
        assert result.exit_code == code
        assert result.stderr
    _, said, ended = await _streamed(guest, command)
    assert ended.exit_code == code and said


@pytest.mark.parametrize("size", [1, 65_536, 1_000_000])
async def test_standard_input(guest: Guest, size: int) -> None:
    assert await guest.out("wc -c", stdin="é" * size) == f"{2 * size}\n"


async def test_input_that_nobody_reads(guest: Guest) -> None:
    assert (await guest.sh("exec <&-; true", stdin="x" * 1_000_000)).exit_code == 0


async def test_cwd_and_env(guest: Guest) -> None:
    await guest.out("mkdir -p a/b; ln -s a/b link")
    assert (await guest.out("pwd; echo $X", cwd="link", env={"X": "1"})).endswith("/a/b\n1\n")


@pytest.mark.parametrize(("cwd", "error"), [("..", PathEscapes), ("/tmp", PathEscapes), ("nope", NotFound)])
async def test_bad_cwd(guest: Guest, cwd: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await guest.sh("true", cwd=cwd)


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("command", {"command": []}),
        ("command", {"command": ""}),
        ("command", {"command": "a\0b"}),
        ("timeout_seconds", {"timeout_seconds": 0.0}),
        ("max_output_bytes", {"max_output_bytes": -1}),
        ("env", {"env": {"": "x"}}),
    ],
)
async def test_bad_requests(guest: Guest, field: str, changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await guest.link.terminal(TerminalRequest(**{"command": "true", **changed}))
    assert field in caught.value.fields


async def test_a_clean_environment_and_no_descriptors(guest: Guest, place: Place) -> None:
    names = {line.split("=")[0] for line in (await guest.out("env")).splitlines()}
    names -= set(place.ground.bases.default.environment)
    assert {"PATH", "HOME", "USER", "LANG", "TERM", "SHELL"} <= names
    assert {n for n in names if not n.startswith("GIT_")} <= {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TERM", "SHELL", "PWD", "SHLVL", "_", "SQUIB_ORIGIN")
    }
    assert await guest.out("for n in $(seq 0 300); do [ ! -e /proc/$$/fd/$n ] || echo $n; done") == "0\n1\n2\n"


async def test_output_is_bounded(guest: Guest) -> None:
    result = await guest.sh("head -c 3000000 /dev/zero | tr '\\0' x; echo e >&2", max_output_bytes=1000)
    assert (len(result.stdout), result.stdout_truncated) == (1000, True)
    assert (result.stderr, result.stderr_truncated) == ("e\n", False)
    out, _, ended = await _streamed(guest, "head -c 3000000 /dev/zero", max_output_bytes=1000)
    assert (len(out), ended.stdout_truncated) == (1000, True)


async def test_the_guests_own_bound(guest: Guest) -> None:
    result = await guest.sh("head -c 20000000 /dev/zero | tr '\\0' x")
    assert (len(result.stdout), result.stdout_truncated) == (8 * 1024 * 1024, True)


async def test_bytes_that_are_no_text(guest: Guest) -> None:
    assert (await guest.sh("printf 'a\\377b'")).stdout == "a�b"


async def test_streamed_byte_for_byte(guest: Guest) -> None:
    await guest.out("head -c 5000000 /dev/urandom > noise")
    out, _, ended = await _streamed(guest, "cat noise; cat noise >&2; seq 100000")
    assert ended.exit_code == 0
    digest = hashlib.sha256(out).hexdigest()
    assert (await guest.out("(cat noise; seq 100000) | sha256sum")).split()[0] == digest


async def test_code_points_cut_in_two(guest: Guest) -> None:
    pieces: list[bytes] = []
    command = "printf 'a\\303'; sleep 0.1; printf '\\251b\\360\\237'; sleep 0.1; printf '\\230\\200\\303'"
    async for name, piece in guest.link.terminal_stream(TerminalRequest(command)):
        if name == "stdout":
            assert isinstance(piece, bytes)
            pieces.append(piece)
    assert b"".join(pieces) == "aéb😀".encode() + b"\303"
    assert len(pieces) > 2


async def test_a_slow_reader_gets_everything(guest: Guest) -> None:
    size = 0
    async with aclosing(guest.link.terminal_stream(TerminalRequest("head -c 30000000 /dev/zero"))) as pieces:
        async for _, piece in pieces:
            if isinstance(piece, bytes):
                await guest.link.health()
                size += len(piece)
    assert size == 30_000_000


async def test_lines_arrive_as_they_come(guest: Guest) -> None:
    """The command goes on only when its first line has been answered by a file: it cannot have been held back."""
    got = b""
    async for name, piece in guest.link.terminal_stream(
        TerminalRequest("echo first; while [ ! -e go ]; do sleep 0.02; done; echo second", timeout_seconds=20)
    ):
        if name == "stdout":
            assert isinstance(piece, bytes)
            got += piece
            if got == b"first\n":
                await guest.link.write("go", b"")
    assert got == b"first\nsecond\n"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        "sleep 50049",
        "setsid sleep 50049; true",
        "trap '' TERM; (trap '' TERM; sleep 50049); sleep 50049",
        "(setsid sh -c 'setsid sleep 50049 & wait' &); sleep 1000",
    ],
)
async def test_timeout_ends_the_tree(guest: Guest, command: str, streamed: bool) -> None:
    if streamed:
        _, _, result = await _streamed(guest, command, timeout_seconds=0.4)
    else:
        result = await guest.sh(command, timeout_seconds=0.4)
    assert result.timed_out
    assert await guest.running("sleep", "50049") == []


async def test_a_client_that_goes_away_ends_the_command(guest: Guest) -> None:
    async with aclosing(guest.link.terminal_stream(TerminalRequest("echo here; setsid sleep 50050; true"))) as pieces:
        await anext(pieces)
        while not await guest.running("sleep", "50050"):
            await guest.link.health()
    end = time.monotonic() + 5
    while await guest.running("sleep", "50050"):
        assert time.monotonic() < end
        await guest.link.health()


@pytest.mark.parametrize(
    "command", ["sleep 3 & echo hi", "setsid sleep 3 & echo hi", "(sleep 3; echo late) & echo hi"]
)
async def test_what_stays_in_the_background_holds_nothing_up(guest: Guest, command: str) -> None:
    began = time.monotonic()
    assert await guest.out(command) == "hi\n"
    out, _, ended = await _streamed(guest, command)
    assert (out, ended.exit_code) == (b"hi\n", 0)
    assert time.monotonic() - began < 3


async def test_one_that_closes_its_output(guest: Guest) -> None:
    result = await guest.sh("echo a; exec >&- 2>&-; sleep 0.2; exit 4")
    assert (result.stdout, result.exit_code) == ("a\n", 4)


async def test_many_at_once(guest: Guest) -> None:
    results = await asyncio.gather(*(guest.out(f"sleep 0.2; echo {i}") for i in range(32)))
    assert results == [f"{i}\n" for i in range(32)]


async def test_no_zombies(guest: Guest) -> None:
    await guest.out("(true &); (setsid true &); true")
    shown = await guest.out("cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z' || true")
    if "bubblewrap" in os.environ.get("PYTEST_CURRENT_TEST", ""):  # elsewhere others' zombies are seen
        assert shown == "0\n"
