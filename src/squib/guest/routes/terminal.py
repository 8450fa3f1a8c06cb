"""`POST /terminal`: one command, buffered or streamed."""

import asyncio
import base64
import contextlib
import os
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from squib.contracts import codec
from squib.contracts.errors import InvalidRequest
from squib.contracts.guest import SSE, TerminalRequest, TerminalResult
from squib.guest import environment
from squib.guest.capture import capture
from squib.guest.command import Command, Ended
from squib.guest.exchange import Exchange

if TYPE_CHECKING:
    from squib.guest.supervisor import Supervisor

HEARTBEAT_SECONDS = 10.0
_STREAM_READ_BYTES = 128 * 1024


def origin() -> str:
    """The mark of a new command's processes, unlike any other guest's: one user's guests may see each other's."""
    return f"terminal-{os.urandom(8).hex()}"


async def terminal(guest: "Supervisor", exchange: Exchange) -> None:
    """Run the command. A program that cannot be started is an outcome: 127, or 126, as a shell says it."""
    request = await exchange.document(TerminalRequest)
    argv = _argv(request)
    if not 0 < request.timeout_seconds <= 7 * 86_400:
        raise InvalidRequest("timeout_seconds: out of range", fields={"timeout_seconds": "must be 0 to 604800"})
    if request.max_output_bytes is not None and request.max_output_bytes < 0:
        raise InvalidRequest("max_output_bytes: negative", fields={"max_output_bytes": "must not be negative"})
    env = environment.build(guest.config, origin(), request.env)
    stdin = request.stdin.encode("utf-8", "surrogatepass")
    streamed = SSE.encode() in exchange.headers.get(b"accept", b"")
    cwd = guest.workspace.open_directory(request.cwd)
    try:
        if streamed:
            await _stream(guest, exchange, request, argv, env, cwd, stdin)
        else:
            exchange.answer(await _buffer(guest, request, argv, env, cwd, stdin))
    finally:
        os.close(cwd)


def _argv(request: TerminalRequest) -> list[str]:
    argv = ["sh", "-c", request.command] if isinstance(request.command, str) else request.command
    if not request.command or not argv[0] or any("\0" in word for word in argv):
        message = "must hold a program, and no NUL"
        raise InvalidRequest(f"command: {message}", fields={"command": message})
    return argv


def _unstartable(error: OSError) -> TerminalResult:
    code = 127 if isinstance(error, FileNotFoundError) else 126
    return TerminalResult(code, None, False, 0.0, stderr=f"squib: {error.strerror or error}\n")


async def _buffer(
    guest: "Supervisor", request: TerminalRequest, argv: list[str], env: dict[str, str], cwd: int, stdin: bytes
) -> TerminalResult:
    limit = guest.config.command_output_bytes
    if request.max_output_bytes is not None:
        limit = min(limit, request.max_output_bytes)
    try:
        ended, out, err = await capture(
            guest.children, argv, env=env, cwd=cwd, seconds=request.timeout_seconds, limit=limit, stdin=stdin
        )
    except OSError as error:
        return _unstartable(error)
    return TerminalResult(
        exit_code=ended.exit_code,
        signal=ended.signal,
        timed_out=ended.timed_out,
        duration_ms=round(ended.seconds * 1000, 3),
        stdout=out.text,
        stderr=err.text,
        stdout_truncated=out.truncated,
        stderr_truncated=err.truncated,
    )


class Stream:
    """One stream's bytes as SSE frames: text where it is whole UTF-8, a code point cut in two carried over."""

    def __init__(self, name: str, limit: int):
        self._head = f'event: {name}\ndata: {{"text":'
        self._binary = f'event: {name}\ndata: {{"base64":"'.encode()
        self._carry = b""
        self._left = limit
        self.truncated = False

    def encode(self, data: bytes) -> bytes:
        """Give the frame for these bytes; empty beyond the limit, or while a code point is incomplete."""
        if len(data) > self._left:
            self.truncated = True
            data = data[: self._left]
        self._left -= len(data)
        if self._carry:
            data, self._carry = self._carry + data, b""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            if error.end != len(data) or error.reason != "unexpected end of data":
                return self._base64(data)
            data, self._carry = data[: error.start], data[error.start :]
            text = data.decode()
        return f"{self._head}{encode_basestring(text)}}}\n\n".encode() if text else b""

    def finish(self) -> bytes:
        """The frame for a code point that was never completed."""
        return self._base64(self._carry) if self._carry else b""

    def _base64(self, data: bytes) -> bytes:
        return b"".join((self._binary, base64.b64encode(data), b'"}\n\n'))


async def _stream(
    guest: "Supervisor",
    exchange: Exchange,
    request: TerminalRequest,
    argv: list[str],
    env: dict[str, str],
    cwd: int,
    stdin: bytes,
) -> None:
    limit = guest.config.run_output_bytes if request.max_output_bytes is None else request.max_output_bytes
    out, err = Stream("stdout", limit), Stream("stderr", limit)
    pace = _Pace(exchange)
    try:
        command = Command(
            guest.children,
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=lambda data: pace.send(out.encode(data)),
            stderr=lambda data: pace.send(err.encode(data)),
            read_bytes=_STREAM_READ_BYTES,
        )
    except OSError as error:
        exchange.start(200, SSE)
        result = _unstartable(error)
        exchange.send(err.encode(result.stderr.encode()) + _exit(result))
        exchange.finish()
        return
    async with command:
        pace.command = command
        exchange.start(200, SSE)
        with pace:
            ended = await command.wait(request.timeout_seconds)
        exchange.send(out.finish() + err.finish() + _exit(_result(ended, out, err)))
        exchange.finish()


def _result(ended: Ended, out: Stream, err: Stream) -> TerminalResult:
    return TerminalResult(
        exit_code=ended.exit_code,
        signal=ended.signal,
        timed_out=ended.timed_out,
        duration_ms=round(ended.seconds * 1000, 3),
        stdout_truncated=out.truncated,
        stderr_truncated=err.truncated,
    )


def _exit(result: TerminalResult) -> bytes:
    return b"event: exit\ndata: " + codec.dumps(result) + b"\n\n"


class _Pace:
    """Lets the command run no faster than the client takes its output; sends a comment when it is silent."""

    def __init__(self, exchange: Exchange):
        self._loop = asyncio.get_running_loop()
        self._exchange = exchange
        self._sent = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.command: Command | None = None

    def __enter__(self) -> None:
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def send(self, frame: bytes) -> None:
        """Send a frame; while the client is behind, the command's output is not read."""
        if not frame:
            return
        with contextlib.suppress(ConnectionError):  # the client is gone: this request is about to be cancelled
            self._exchange.send(frame)
        self._sent = self._loop.time()
        if self._exchange.blocked and self.command is not None:
            self.command.pause()
            self._exchange.when_writable(self.command.resume)

    def _beat(self) -> None:
        if self._loop.time() - self._sent >= HEARTBEAT_SECONDS:
            self.send(b":\n\n")
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS, self._beat)
