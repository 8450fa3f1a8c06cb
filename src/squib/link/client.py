"""The guest's HTTP contract as one class."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import h11

from squib.contracts import codec, guest
from squib.contracts.errors import GuestUnreachable, NotFound, TooLarge
from squib.contracts.event import GuestEvent
from squib.link import sse, untrusted
from squib.link.connection import Body, Connection
from squib.link.pool import Pool
from squib.link.pty import Pty, open_pty
from squib.link.stream import chunk_bytes, exit_result, file_pieces, save
from squib.link.transport import parse_endpoint

T = TypeVar("T")
Header = tuple[str, str]
Batch = list[GuestEvent]
Piece = tuple[str, bytes | guest.TerminalResult]

LONG_SECONDS = 900.0  # for what moves a whole repository or workspace
_MAX_ANSWER = 16 * 1024 * 1024  # bytes of a JSON answer
_MAX_TEXT = 64 * 1024 * 1024  # bytes of a diff or of a file read at once
_MAX_OUTPUT = 8 * 1024 * 1024  # bytes of each stream of a buffered command, where the request names no bound
_JSON = ("Content-Type", "application/json")
_SSE = ("Accept", guest.SSE)


class GuestLink:
    """A guest, as its host sees it. One per guest; close it, or use it as an async context manager.

    Safe for many tasks at once. Errors: what the guest's problem document says (InvalidRequest, NotFound,
    Conflict and the like); GuestUnreachable where it does not answer in time, or answers rubbish; TooLarge over a
    bound. `timeout` is in seconds, for every call that should be quick, and between two reads of a stream.
    """

    def __init__(self, endpoint: str, token: str, *, uid: int | None = None, timeout: float = 30.0):
        self._pool = Pool(parse_endpoint(endpoint), token, uid)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    # -- life

    async def health(self) -> guest.Health:
        """Proof of life; it also renews the guest's lease."""
        return await self._get(guest.Health, "/health")

    async def freeze(self, body: guest.FreezeRequest) -> guest.Health:
        """Get it ready to be frozen, which takes a moment. Raises Conflict while it is at work."""
        return await self._post(guest.Health, "/freeze", body, repeatable=False)

    async def resume(self, body: guest.Resume) -> guest.Health:
        """Tell a restored clone who it is."""
        return await self._post(guest.Health, "/resume", body, repeatable=False)

    async def logs(self) -> str:
        """The supervisor's own log: text to show, never to trust."""
        return (await self._read("/logs", {}, _MAX_ANSWER, self._timeout)).decode("utf-8", "replace")

    async def events(self, epoch: str | None, n: int) -> AsyncGenerator[Batch, None]:
        """Events after number `n` of `epoch` (None: all that there are), in batches as they arrive.

        Ends when the guest ends the stream; raises GuestUnreachable when it breaks off, sends rubbish, or is
        silent, heartbeats included, for longer than the timeout.
        """
        after = None if epoch is None else f"{epoch}:{n}"
        target = self._pool.target("/events", {"after": after})
        get = self._pool.exchange("GET", target, headers=[_SSE], seconds=self._timeout, endless=True)
        splitter = sse.Splitter()
        async with aclosing(self._stream(get, self._timeout)) as chunks:
            async for chunk in chunks:
                if (frames := splitter.feed(chunk)) and (batch := sse.guest_events(frames)):
                    yield batch

    # -- runs

    async def run(self, body: guest.RunRequest) -> guest.RunStatus:
        """Start a turn. The same run_id again answers the status of that run."""
        return await self._post(guest.RunStatus, "/run", body)

    async def run_status(self) -> guest.RunStatus | None:
        """The run that is active or was last; None where nothing has run."""
        try:
            return await self._get(guest.RunStatus, "/run")
        except NotFound:
            return None

    async def cancel(self, body: guest.CancelRequest) -> guest.RunStatus:
        """End a run; returns once its whole process tree has ended."""
        return await self._post(guest.RunStatus, "/run/cancel", body, seconds=self._timeout + body.grace_seconds)

    # -- terminal

    async def terminal(self, body: guest.TerminalRequest) -> guest.TerminalResult:
        """Run one command and wait for it. Never sent twice."""
        bound = _MAX_OUTPUT if body.max_output_bytes is None else body.max_output_bytes
        most = 2 * 6 * bound + 65536  # two streams, and JSON may write a byte as six
        seconds = self._timeout + body.timeout_seconds
        return await self._post(
            guest.TerminalResult, "/terminal", body, repeatable=False, seconds=seconds, max_bytes=most
        )

    async def terminal_stream(self, body: guest.TerminalRequest) -> AsyncGenerator[Piece, None]:
        """Run one command: ("stdout" or "stderr", bytes), and at last ("exit", TerminalResult). Never sent twice."""
        document, seconds = codec.dumps(body), self._timeout + body.timeout_seconds
        target, headers = self._pool.target("/terminal"), [_JSON, _SSE]
        post = self._pool.exchange(
            "POST", target, lambda: document, headers, repeatable=False, seconds=seconds, endless=True
        )
        end = asyncio.get_running_loop().time() + seconds
        splitter = sse.Splitter()
        async with aclosing(self._stream(post, seconds)) as chunks:
            async for chunk in chunks:
                for name, data in map(sse.fields, splitter.feed(chunk)):
                    if name == "exit":
                        yield name, exit_result(data)
                        return
                    if name in ("stdout", "stderr"):
                        yield name, chunk_bytes(data)
                if asyncio.get_running_loop().time() > end:
                    raise GuestUnreachable("the guest did not end the command in time")
        raise GuestUnreachable("the guest did not say how the command ended")

    def pty(self, *, cols: int, rows: int, command: str | None) -> AbstractAsyncContextManager[Pty]:
        """Open an interactive terminal of that size in characters, with a shell or with `command`."""
        target = self._pool.target("/terminal/pty", {"cols": cols, "rows": rows, "command": command})
        return open_pty(self._pool, target, self._timeout)

    # -- git

    async def clone(
        self, bundle: Path, *, commit: str, reset: str | None = None, branch: str | None = None
    ) -> guest.GitState:
        """Bring in a git bundle and check out `commit` on `branch`; see contracts.guest for `reset`."""
        target = self._pool.target("/git/clone", {"commit": commit, "reset": reset, "branch": branch})
        return await self._upload_file(guest.GitState, target, bundle, guest.BUNDLE)

    async def commit(self, body: guest.CommitRequest) -> guest.GitState:
        """Commit everything in the work tree."""
        return await self._post(guest.GitState, "/git/commit", body, repeatable=False, seconds=LONG_SECONDS)

    async def push(self, body: guest.PushRequest, target: Path, *, max_bytes: int = 1024**3) -> guest.GitState | None:
        """Save what the host does not have as a bundle at `target`. None where nothing has changed since `unless`.

        Where something has, but the host has all of its commits already, there is no file. Raises TooLarge over
        `max_bytes`. The bundle is untrusted: hand it to nothing but a hardened git.
        """
        document, target_ = codec.dumps(body), self._pool.target("/git/push")
        post = self._pool.exchange("POST", target_, lambda: document, [_JSON], seconds=LONG_SECONDS)
        async with post as (response, connection):
            header = dict(response.headers).get(guest.GIT_HEADER.lower().encode())
            state = untrusted.load(guest.GitState, header) if header is not None else None
            if response.status_code == 204:
                await connection.read(0)
                return None if state is None or state.digest == body.unless else state
            if state is None:
                raise GuestUnreachable("the guest did not say where its repository stands")
            await save(connection.chunks(), target, max_bytes)
            return state

    async def diff(self, base: str | None, *, max_bytes: int = _MAX_TEXT) -> bytes:
        """The work tree, untracked files included, against `base`. Raises TooLarge over `max_bytes`."""
        return await self._read("/git/diff", {"base": base}, max_bytes, LONG_SECONDS)

    # -- files

    async def write(
        self, path: str, content: bytes | AsyncIterator[bytes], mode: int | None = None
    ) -> guest.FileEntry:
        """Write a file below the workspace; parents are made. `mode` is octal digits' worth, as in 0o644."""
        target = self._pool.target("/files/write", {"path": path, "mode": None if mode is None else f"{mode:o}"})
        if isinstance(content, bytes):
            return await self._upload(guest.FileEntry, target, lambda: content)
        chunked = ("Transfer-Encoding", "chunked")
        return await self._upload(guest.FileEntry, target, lambda: content, chunked, repeatable=False)

    async def read(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """A file's bytes from `offset`, at most `limit` of them. Raises TooLarge over 64 MiB."""
        query = {"path": path, "offset": offset or None, "limit": limit}
        return await self._read("/files/read", query, _MAX_TEXT, LONG_SECONDS)

    async def read_stream(self, path: str, offset: int = 0, limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """A file's bytes as they come, without a bound of their own."""
        target = self._pool.target("/files/read", {"path": path, "offset": offset or None, "limit": limit})
        get = self._pool.exchange("GET", target, seconds=self._timeout, endless=True)
        async with aclosing(self._stream(get, self._timeout)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def list(self, path: str = ".", depth: int = 1) -> guest.FileList:
        """The entries below a directory, `depth` levels of them."""
        return await self._get(guest.FileList, "/files/list", {"path": path, "depth": depth})

    async def archive(self, target: Path, *, max_bytes: int) -> int:
        """Save the workspace as a tar.gz at `target` and give its size. Raises TooLarge over `max_bytes`.

        The archive is untrusted: never unpack it on the host.
        """
        get = self._pool.exchange("GET", self._pool.target("/files/archive"), seconds=LONG_SECONDS)
        async with get as (_, connection):
            return await save(connection.chunks(), target, max_bytes)

    async def extract(self, archive: Path) -> guest.FileList:
        """Unpack such an archive into the workspace."""
        return await self._upload_file(
            guest.FileList, self._pool.target("/files/extract"), archive, "application/gzip"
        )

    # -- how

    async def _get(self, kind: type[T], path: str, query: Mapping[str, object] | None = None) -> T:
        call = self._pool.exchange("GET", self._pool.target(path, query), seconds=self._timeout)
        async with call as (_, connection):
            return untrusted.load(kind, await connection.read(_MAX_ANSWER))

    async def _post(
        self,
        kind: type[T],
        path: str,
        body: object,
        *,
        repeatable: bool = True,
        seconds: float | None = None,
        max_bytes: int = _MAX_ANSWER,
    ) -> T:
        document, limit = codec.dumps(body), self._timeout if seconds is None else seconds
        target = self._pool.target(path)
        call = self._pool.exchange("POST", target, lambda: document, [_JSON], repeatable=repeatable, seconds=limit)
        async with call as (_, connection):
            return untrusted.load(kind, await connection.read(max_bytes))

    async def _upload(
        self, kind: type[T], target: str, body: Callable[[], Body], *headers: Header, repeatable: bool = True
    ) -> T:
        call = self._pool.exchange("POST", target, body, headers, repeatable=repeatable, seconds=LONG_SECONDS)
        async with call as (_, connection):
            return untrusted.load(kind, await connection.read(_MAX_ANSWER))

    async def _upload_file(self, kind: type[T], target: str, source: Path, media_type: str) -> T:
        size = source.stat().st_size
        headers = (("Content-Type", media_type), ("Content-Length", str(size)))
        return await self._upload(kind, target, lambda: file_pieces(source, size), *headers)

    async def _read(self, path: str, query: Mapping[str, object], max_bytes: int, seconds: float) -> bytes:
        async with self._pool.exchange("GET", self._pool.target(path, query), seconds=seconds) as (_, connection):
            return await connection.read(max_bytes, TooLarge)

    async def _stream(
        self, exchange: AbstractAsyncContextManager[tuple[h11.Response, Connection]], pause: float
    ) -> AsyncGenerator[bytes, None]:
        """An endless answer's body as it comes, with at most `pause` seconds between two reads."""
        async with exchange as (_, connection), aclosing(connection.chunks()) as chunks:
            while True:
                try:
                    async with asyncio.timeout(pause):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise GuestUnreachable(f"the guest was silent for {pause:g} s") from error
                yield chunk
