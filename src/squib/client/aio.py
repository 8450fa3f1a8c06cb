"""The asynchronous client, for one event loop; `sync` is its twin, method by method."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import httpx2
from httpx2.websockets import AsyncWebSocketSession, WebSocketNetworkError, WebSocketUpgradeError

from squib.client import endpoints, retry
from squib.client.connection import STREAM_SECONDS, Server, arguments, reply
from squib.client.endpoints import Call
from squib.client.feed import Feed
from squib.client.pty import MAX_MESSAGE_BYTES, AsyncPty
from squib.contracts.api import EventPage, Info, Me, NewToken, TaskPage, Token
from squib.contracts.errors import Conflict, SquibError
from squib.contracts.event import Event
from squib.contracts.guest import FileEntry, FileList, TerminalRequest, TerminalResult
from squib.contracts.task import Artifact, Message, Task, TaskSpec, TaskState, Upload

T = TypeVar("T")


class AsyncClient:
    """squib's API. An async context manager; errors are those of `squib.contracts.errors` and `squib.client.errors`.

    `timeout` is in seconds without a byte; a request that may be repeated is sent up to `attempts` times.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 30.0, attempts: int = 4):
        self.server = Server(url, token, timeout, attempts)
        self._http = httpx2.AsyncClient(**self.server.options())
        self.tasks = Tasks(self)
        self.tokens = Tokens(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def info(self) -> Info:
        """The server's version, drivers and agents."""
        return await self.call(endpoints.info())

    async def me(self) -> Me:
        """Whose token this is."""
        return await self.call(endpoints.me())

    async def call(self, call: Call[T], content: AsyncIterable[bytes] | None = None) -> T:
        """Send a call of `endpoints` and read its answer; `content` is streamed as the body."""
        request = arguments(call) | {"timeout": max(self.server.timeout, call.patience)}
        if content is not None:
            request["content"] = content
        for attempt in range(1, self.server.attempts + 1):
            answer: httpx2.Response | None = None
            try:
                answer = await self._http.request(**request)
            except httpx2.TransportError as error:
                if not self._again(call, None, attempt):
                    raise self.server.unreachable(error) from error
            if answer is not None and not self._again(call, answer.status_code, attempt):
                return call.parse(reply(answer))
            await asyncio.sleep(
                retry.delay(attempt, answer.headers.get("Retry-After") if answer is not None else None)
            )
        raise AssertionError("the last attempt returns or raises")

    def _again(self, call: Call[Any], status: int | None, attempt: int) -> bool:
        limit = self.server.attempts
        return retry.again(repeatable=call.repeatable, status=status, attempt=attempt, attempts=limit)

    @contextlib.asynccontextmanager
    async def stream(self, call: Call[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a call and give the pieces of its answer as they come. Never repeated."""
        try:
            async with self._http.stream(
                **arguments(call), timeout=max(self.server.timeout, STREAM_SECONDS)
            ) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise endpoints.failure(reply(answer))
                yield answer.aiter_raw()
        except httpx2.TransportError as error:
            raise self.server.unreachable(error) from error

    @contextlib.asynccontextmanager
    async def websocket(self, call: Call[bytes]) -> AsyncIterator[AsyncWebSocketSession]:
        """Open a WebSocket. Raises the server's error where it refuses."""
        try:
            async with self._http.websocket(
                call.path, params=list(call.params), max_message_size_bytes=MAX_MESSAGE_BYTES
            ) as socket:
                yield socket
        except WebSocketUpgradeError as error:
            await error.response.aread()
            raise endpoints.failure(reply(error.response)) from error
        except (httpx2.TransportError, WebSocketNetworkError) as error:
            raise self.server.unreachable(error) from error


class Tasks:
    """What concerns tasks; `client.tasks`."""

    def __init__(self, client: AsyncClient):
        self._client = client
        self._call = client.call

    async def create(self, spec: TaskSpec, *, idempotency_key: str | None = None) -> Task:
        """Submit a task. A key is made where none is given, so that a repeat after a lost answer makes no second."""
        return await self._call(endpoints.create_task(spec, idempotency_key))

    async def get(self, task_id: str) -> Task:
        """The task as it is now."""
        return await self._call(endpoints.get_task(task_id))

    async def list(
        self,
        *,
        states: Sequence[TaskState] = (),
        labels: Mapping[str, str] | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> TaskPage:
        """One page of tasks, newest first, of those states and labels. `limit` is 1 to 200."""
        return await self._call(endpoints.list_tasks(states, labels, cursor, limit))

    async def iterate(
        self, *, states: Sequence[TaskState] = (), labels: Mapping[str, str] | None = None, limit: int = 50
    ) -> AsyncIterator[Task]:
        """All tasks, newest first, asked for in pages of `limit`."""
        cursor: str | None = None
        while True:
            page = await self.list(states=states, labels=labels, cursor=cursor, limit=limit)
            for task in page.tasks:
                yield task
            cursor = page.next
            if cursor is None:
                return

    async def cancel(self, task_id: str, reason: str | None = None) -> Task:
        """Ask for the task's end; it comes soon after. Conflict where it has ended."""
        return await self._call(endpoints.cancel_task(task_id, reason))

    async def retry(self, task_id: str) -> Task:
        """A new task like this ended one."""
        return await self._call(endpoints.retry_task(task_id))

    async def send(self, task_id: str, prompt: str) -> Message:
        """One more turn in the task's sandbox. Conflict where it has ended."""
        return await self._call(endpoints.send_message(task_id, prompt))

    async def events(self, task_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """The events after that number, as they happen, to the terminal one.

        Each comes once and in order, over dropped connections too: the reader goes on where it stood. Raises the
        last error where ten connections in a row brought nothing.
        """
        feed = Feed(after)
        while not feed.ended():
            problem: SquibError | None = None
            feed.connected(time.monotonic())
            try:
                async with self._client.stream(endpoints.stream_events(task_id, feed.after)) as chunks:
                    async for chunk in chunks:
                        for event in feed.feed(chunk):
                            yield event
                        if feed.ended():
                            return
            except SquibError as error:
                if not retry.passing(error):
                    raise
                problem = error
            if problem is None and feed.over(await self.get(task_id)):
                return
            await asyncio.sleep(feed.lost(time.monotonic(), problem))

    async def event_page(self, task_id: str, *, after: int = 0, limit: int = 200) -> EventPage:
        """Up to `limit` of the events after that number, those that exist now."""
        return await self._call(endpoints.get_events(task_id, after, limit))

    async def wait(self, task_id: str) -> Task:
        """Return the task once it has ended; its own limits bound how long that takes."""
        task = await self.get(task_id)
        async for _ in self.events(task_id, after=task.last_seq):
            pass
        return await self.get(task_id)

    async def artifacts(self, task_id: str) -> Sequence[Artifact]:
        """What is kept of the task."""
        return await self._call(endpoints.list_artifacts(task_id))

    async def download(self, task_id: str, name: str, target: BinaryIO) -> int:
        """Write an artifact to `target`, piece by piece; the number of bytes."""
        async with self._client.stream(endpoints.download_artifact(task_id, name)) as chunks:
            return sum([target.write(chunk) async for chunk in chunks])

    async def diff(self, task_id: str) -> bytes:
        """The task's patch: of the live sandbox, and after its end the one that is kept, byte for byte."""
        try:
            return await self._call(endpoints.get_diff(task_id))
        except Conflict:
            return await self._call(endpoints.download_artifact(task_id, "patch"))

    async def terminal(self, task_id: str, request: TerminalRequest) -> TerminalResult:
        """Run one command in the live sandbox, beside the agent."""
        return await self._call(endpoints.run_terminal(task_id, request))

    @contextlib.asynccontextmanager
    async def pty(
        self, task_id: str, *, cols: int = 80, rows: int = 24, command: str | None = None
    ) -> AsyncIterator[AsyncPty]:
        """An interactive terminal in the live sandbox; a login shell where no command is named."""
        call = endpoints.open_pty(task_id, cols, rows, command)
        async with self._client.websocket(call) as socket:
            yield AsyncPty(socket)

    async def list_files(self, task_id: str, path: str = ".", *, depth: int = 1) -> FileList:
        """What lies in a directory of the live sandbox's workspace."""
        return await self._call(endpoints.list_files(task_id, path, depth))

    async def read_file(self, task_id: str, path: str, target: BinaryIO) -> int:
        """Write a file of the workspace to `target`, piece by piece; the number of bytes."""
        async with self._client.stream(endpoints.read_file(task_id, path)) as chunks:
            return sum([target.write(chunk) async for chunk in chunks])

    async def write_file(self, task_id: str, path: str, content: bytes | AsyncIterable[bytes]) -> FileEntry:
        """Write a file of the workspace, its parents made."""
        if isinstance(content, bytes):
            return await self._call(endpoints.write_file(task_id, path, content))
        return await self._call(endpoints.write_file(task_id, path), content)

    async def upload(
        self,
        bundle: AsyncIterable[bytes],
        *,
        commit: str,
        base: str | None = None,
        branch: str | None = None,
        size: int | None = None,
    ) -> Upload:
        """Send a git bundle for a task to start from: `commit` is checked out, `base` is the tip of `branch`.

        With its `size` in bytes, one that is too large is refused before it is sent.
        """
        return await self._call(endpoints.create_upload(commit, base, branch, size), bundle)


class Tokens:
    """What concerns tokens; `client.tokens`."""

    def __init__(self, client: AsyncClient):
        self._call = client.call

    async def list(self) -> Sequence[Token]:
        """One's own tokens, without their secrets."""
        return await self._call(endpoints.list_tokens())

    async def create(self, name: str) -> NewToken:
        """A new token; its secret is shown this once."""
        return await self._call(endpoints.create_token(name))

    async def revoke(self, token_id: str) -> None:
        """End a token at once."""
        await self._call(endpoints.revoke_token(token_id))
