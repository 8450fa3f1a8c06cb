"""squib itself, started as its users start it: a process of its own, found through the API."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from bench import node
from squib.client import AsyncClient
from squib.paths import CONNECTION_FILE

SQUIB = Path(sys.executable).with_name("squib")
START_SECONDS = 60


@dataclass
class Role:
    """One squib command, with its log, in a session of its own."""

    argv: list[str]
    env: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it may take a while to be ready."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                SQUIB,
                *self.argv,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its pid."""
        assert self.process is not None
        return self.process.pid

    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.returncode is None

    async def kill(self) -> None:
        """End it as the kernel's out-of-memory killer would: at once, unable to clean up."""
        if self.process is not None and self.running():
            self.process.kill()
            await self.process.wait()

    async def stop(self, seconds: float = 30.0) -> None:
        """End it as Ctrl-C does, and wait; kill it where it does not end."""
        if self.process is None or not self.running():
            return
        self.process.send_signal(2)
        try:
            await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"squib {self.argv[0]} did not end on SIGINT:\n{self.tail()}") from None

    def tail(self, lines: int = 60, *, of: str = "") -> str:
        """The last lines of its log that hold `of`, without the requests."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        kept = [line for line in text.splitlines() if of in line and '"event": "request"' not in line]
        return "\n".join(kept[-lines:])


def environment(state: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """A clean environment with these settings, by name without the prefix (`SANDBOX__DRIVER`)."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"SQUIB_STATE_DIR": str(state)} | {f"SQUIB_{name}": str(value) for name, value in settings.items()}


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def ready(url: str, role: Role, seconds: float = START_SECONDS) -> None:
    """Return once the API says that it is ready. Raises AssertionError with the log's end where it does not."""
    async with asyncio.timeout(seconds), httpx2.AsyncClient(base_url=url) as http:
        while True:
            assert role.running(), f"squib {role.argv[0]} ended:\n{role.tail()}"
            with contextlib.suppress(httpx2.TransportError):
                if (await http.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Up:
    """A running `squib up`."""

    url: str
    token: str
    state: Path
    role: Role

    def client(self) -> AsyncClient:
        """An SDK client with the first token."""
        return AsyncClient(self.url, self.token)

    async def pool(self, count: int) -> None:
        """Return once so many sandboxes wait for a task."""
        await node.pooled(self.state, count)


@contextlib.asynccontextmanager
async def up(directory: Path, **settings: object) -> AsyncIterator[Up]:
    """Start `squib up` in a directory of its own and stop it at the end. The driver is bubblewrap."""
    directory.mkdir(mode=0o711, exist_ok=True)
    port, state = free_port(), directory / "state"
    base = {"PORT": port, "SANDBOX__DRIVER": "bubblewrap", "LOG_LEVEL": "warning"}
    role = Role(["up"], environment(state, base | settings), directory / "up.log")
    url = f"http://127.0.0.1:{port}"
    await role.start()
    try:
        await ready(url, role)
        token = json.loads((state / CONNECTION_FILE).read_text())["token"]
        yield Up(url, token, state, role)
    finally:
        await role.stop()


@contextlib.asynccontextmanager
async def bare_uvicorn(*agent: str) -> AsyncIterator[tuple[str, int]]:
    """uvicorn with `floor_app`; gives its URL and pid. `agent` is the command line that POST /spawn starts."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "bench.floor_app:app", "--port", str(port), "--log-level", "error"]
    env = os.environ | {"FLOOR_AGENT": json.dumps(agent)}
    process = await asyncio.create_subprocess_exec(*argv, cwd=Path(__file__).parent.parent, env=env)
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.kill()
        await process.wait()
