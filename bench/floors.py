"""Bare programs that do the same work without squib: the floor beside a row."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

SERVER = Path(__file__).with_name("floor_server.py")
UID = 199_998  # of nobody in particular: bubblewrap must not run as root
#: A Python that another user may run too: one under root's home would not do.
PYTHON = next((p for p in ("/usr/bin/python3",) if Path(p).exists()), sys.executable)


Act = Callable[[], Awaitable[object]]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A short directory that other users may pass through, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="sqb-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


async def timed(count: int, act: Act) -> list[float]:
    """Do it `count` times, one after the other; milliseconds each."""
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        await act()
        samples.append((time.perf_counter() - started) * 1000)
    return samples


async def subprocess(command: str) -> bytes:
    """Run a shell command and read all that it prints."""
    process = await asyncio.create_subprocess_exec("sh", "-c", command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output


@contextlib.asynccontextmanager
async def plain(directory: Path) -> AsyncIterator[tuple[Path, int]]:
    """`floor_server` as a plain subprocess; gives its socket and pid once it has answered."""
    work = Path(tempfile.mkdtemp(prefix="floor-", dir=directory))
    process = await asyncio.create_subprocess_exec(PYTHON, str(SERVER), str(work / "s"), cwd="/")
    async with _answering(process, work) as socket:
        yield socket, process.pid


@contextlib.asynccontextmanager
async def sandbox(directory: Path) -> AsyncIterator[tuple[Path, int]]:
    """Bare bubblewrap around `floor_server`; gives its socket and pid once it has answered."""
    work = Path(tempfile.mkdtemp(prefix="floor-", dir=directory))
    root = os.geteuid() == 0
    if root:
        os.chown(work, UID, UID)
    drop = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"] if root else []
    source = work / SERVER.name
    shutil.copyfile(SERVER, source)
    source.chmod(0o644)
    wrap = ["bwrap", "--unshare-all", "--new-session", "--die-with-parent", "--ro-bind", "/usr", "/usr"]
    for link in ("bin", "lib", "lib64", "sbin"):
        if Path("/", link).is_symlink():
            wrap += ["--symlink", f"usr/{link}", f"/{link}"]
    wrap += ["--proc", "/proc", "--dev", "/dev", "--bind", str(work), "/work"]
    wrap += ["--ro-bind", str(source), "/server.py", "--chdir", "/"]
    process = await asyncio.create_subprocess_exec(*drop, *wrap, PYTHON, "/server.py", "/work/s", cwd="/")
    async with _answering(process, work) as socket:
        yield socket, process.pid


@contextlib.asynccontextmanager
async def _answering(process: asyncio.subprocess.Process, work: Path) -> AsyncIterator[Path]:
    """The socket of a server that has been started, once it answers; it ends with the block."""
    try:
        while True:
            try:
                await ask(work / "s", "")
                break
            except OSError:  # not there yet
                await asyncio.sleep(0.001)
        yield work / "s"
    finally:
        process.kill()
        await process.wait()
        shutil.rmtree(work)


async def ask(path: Path, command: str) -> bytes:
    """Send one command to the bare server and read all that it answers."""
    reader, writer = await asyncio.open_unix_connection(path)
    body = command.encode()
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    answer = await reader.read(-1)
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]
