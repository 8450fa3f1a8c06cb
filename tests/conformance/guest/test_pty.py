"""The terminal: a real one, with a size, an exit, and an end when its client goes away."""

import time

from squib.contracts.guest import PtyExit
from squib.link.pty import Pty
from tests.conformance.guest.conftest import Guest, Place


async def _until(pty: Pty, text: bytes) -> bytes:
    seen = b""
    async for piece in pty:
        seen += piece
        if text in seen:
            return seen
    raise AssertionError(f"{text!r} never came: {seen!r}")


async def test_a_shell(guest: Guest) -> None:
    async with guest.link.pty(cols=91, rows=33, command=None) as pty:
        await pty.send(b"stty size; tty; echo $TERM; exit 5\n")
        seen = b""
        async for piece in pty:
            seen += piece
        assert b"33 91" in seen
        assert b"/dev/pts/" in seen
        assert b"xterm-256color" in seen
        assert pty.exit == PtyExit(5, None)


async def test_resize(guest: Guest) -> None:
    command = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    async with guest.link.pty(cols=80, rows=24, command=command) as pty:
        await _until(pty, b"ready")
        await pty.resize(132, 50)
        await _until(pty, b"50 132")


async def test_it_is_the_controlling_terminal(guest: Guest, place: Place) -> None:
    where = "" if "/dev/tty" in place.capability.lacks else " > /dev/tty"
    command = f"sh -c 'echo ready{where}; exec cat'; echo no"  # once it is ready, nothing forks any more
    async with guest.link.pty(cols=80, rows=24, command=command) as pty:
        await _until(pty, b"ready")
        await pty.send(b"\x03")
        async for _ in pty:
            pass
        assert pty.exit is not None
        assert 2 in (pty.exit.signal, (pty.exit.exit_code or 0) - 128)


async def test_bytes_both_ways(guest: Guest, place: Place) -> None:
    # Where a raw terminal still makes signals of keys: all but those (interrupt, suspend, quit).
    kept = [n for n in range(256) if "raw terminals" not in place.capability.lacks or n not in (3, 26, 28)]
    command = f"stty raw -echo; echo ready; head -c {len(kept)} | od -An -v -tx1"
    async with guest.link.pty(cols=80, rows=24, command=command) as pty:
        await _until(pty, b"ready")
        await pty.send(bytes(kept))
        seen = b""
        async for piece in pty:
            seen += piece
    assert seen.split()[-len(kept) :] == [f"{n:02x}".encode() for n in kept]


async def test_much_output_to_a_slow_client(guest: Guest) -> None:
    size = 0
    async with guest.link.pty(cols=80, rows=24, command="stty raw; head -c 3000000 /dev/zero | tr '\\0' x") as pty:
        async for piece in pty:
            size += len(piece)
            await guest.link.health()
        assert pty.exit == PtyExit(0, None)
    assert size == 3_000_000


async def test_a_client_that_goes_away_ends_the_shells_tree(guest: Guest) -> None:
    command = "setsid sleep 60061 & trap '' HUP TERM; echo ready; sleep 60062"
    async with guest.link.pty(cols=80, rows=24, command=command) as pty:
        await _until(pty, b"ready")
    end = time.monotonic() + 5
    while await guest.running("sleep", "60061") or await guest.running("sleep", "60062"):
        assert time.monotonic() < end
        await guest.link.health()
