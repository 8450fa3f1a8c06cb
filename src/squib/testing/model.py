"""A scripted model server: stands in for Anthropic's API in tests and demonstrations, without a key or a network.

    python -m squib.testing.model --port 8991 [--script FILE] [--key KEY] [--log FILE]

Then let squib's provider settings lead to it, with any key, and run a task with the real Claude Code:

    SQUIB_PROVIDERS__ANTHROPIC__BASE_URL=http://127.0.0.1:8991 SQUIB_PROVIDERS__ANTHROPIC__API_KEY=demo squib up
    squib run --agent claude "Say hello"

Without a script it writes hello.py and runs it. `squib.testing.script` says what a script is, and which directives a
prompt may hold. It keeps no state: each answer follows from the conversation in the request. In tests, use
`ModelServer` as an async context manager; `seen` holds the requests, with the headers that reached the provider.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h11

from squib.testing import messages, script
from squib.testing.script import Step

_MAX_BODY_BYTES = 64 * 1024 * 1024
_KEPT = 1000  # requests remembered


@dataclass
class Seen:
    """A request that arrived; header names are lower-case."""

    method: str
    target: str
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)
    step: Step | None = None


class ModelServer:
    """Listens on 127.0.0.1 while entered. With `key`, refuses requests whose `x-api-key` is another, by 401."""

    def __init__(
        self,
        turns: Sequence[Sequence[Step]] = script.DEFAULT,
        *,
        port: int = 0,
        key: str | None = None,
        log: Path | None = None,
    ):
        self._turns, self._port, self._key, self._log = turns, port, key, log
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: deque[Seen] = deque(maxlen=_KEPT)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """The base URL, for the provider's settings."""
        return f"http://127.0.0.1:{self._port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while (seen := await _receive(connection, reader)) is not None:
                self.seen.append(seen)
                await self._answer(seen, connection, writer)
                self._note(seen)
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (OSError, h11.ProtocolError):
            return
        finally:
            writer.close()

    async def _answer(self, seen: Seen, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        path = seen.target.partition("?")[0]
        if self._key is not None and seen.headers.get("x-api-key") != self._key:
            await _send(connection, writer, 401, messages.error(401, "invalid x-api-key"))
        elif (seen.method, path) == ("POST", "/v1/messages"):
            await self._message(seen, connection, writer)
        elif seen.method == "HEAD":  # a look whether there is a server at all
            await _send(connection, writer, 200, b"")
        elif (seen.method, path) == ("POST", "/v1/messages/count_tokens"):
            await _send(connection, writer, 200, json.dumps({"input_tokens": _tokens(seen)}).encode())
        else:
            await _send(connection, writer, 404, messages.error(404, f"there is no {path}"))

    async def _message(self, seen: Seen, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        try:
            step = seen.step = script.choose(self._turns, script.read(seen.body))
        except (AttributeError, KeyError, TypeError):
            await _send(connection, writer, 400, messages.error(400, "this is no Messages request"))
            return
        model = str(seen.body.get("model", "scripted"))
        if step.error is not None:
            await _send(connection, writer, step.error, messages.error(step.error, step.message))
            return
        if not seen.body.get("stream"):
            await asyncio.sleep(step.slow_ms / 1000)
            await _send(connection, writer, 200, messages.whole(step, model, _tokens(seen)))
            return
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
        await _write(connection, writer, h11.Response(status_code=200, headers=headers))
        for event, waits in messages.stream(step, model, _tokens(seen)):
            if waits and step.slow_ms:
                await asyncio.sleep(step.slow_ms / 1000)
            await _write(connection, writer, h11.Data(event))
        await _write(connection, writer, h11.EndOfMessage())

    def _note(self, seen: Seen) -> None:
        if self._log is not None:
            said = None if seen.step is None else (seen.step.tool or seen.step.error or "text")
            line = {"time": time.time(), "method": seen.method, "target": seen.target, "headers": seen.headers}
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "model": seen.body.get("model"), "step": said}) + "\n")


def _tokens(seen: Seen) -> int:
    return len(json.dumps(seen.body.get("messages"))) // 4


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> Seen | None:
    """The next request, whole; None where the client has closed."""
    seen, body = None, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            seen = Seen(event.method.decode(), event.target.decode("latin-1"), headers)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_BODY_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage) and seen is not None:
            with contextlib.suppress(ValueError):
                document = json.loads(body or b"{}")
                seen.body = document if isinstance(document, dict) else {}
            return seen
        else:
            return None


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    await _write(connection, writer, h11.Response(status_code=status, headers=headers))
    await _write(connection, writer, h11.Data(body))
    await _write(connection, writer, h11.EndOfMessage())


async def _write(connection: h11.Connection, writer: asyncio.StreamWriter, event: h11.Event) -> None:
    writer.write(connection.send(event) or b"")
    await writer.drain()


async def _main(arguments: argparse.Namespace) -> None:
    turns = script.load(arguments.script) if arguments.script else script.DEFAULT
    async with ModelServer(turns, port=arguments.port, key=arguments.key, log=arguments.log) as server:
        sys.stdout.write(f"model server ready at {server.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; runs until interrupted."""
    parser = argparse.ArgumentParser(
        "python -m squib.testing.model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8991, help="on 127.0.0.1; 0 takes a free one (default 8991)")
    parser.add_argument("--script", type=Path, help="a JSON file (default: write hello.py and run it)")
    parser.add_argument("--key", help="refuse every other key, as the provider would")
    parser.add_argument("--log", type=Path, help="write each request's headers here, a JSON object a line")
    try:
        asyncio.run(_main(parser.parse_args(argv)))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
